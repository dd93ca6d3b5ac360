"""A storage provider that knows its files without asking anyone."""

from snakemake_interface_storage_plugins.storage_object import StorageObjectRead, StorageObjectWrite
from snakemake_interface_storage_plugins.storage_provider import (
    ExampleQuery,
    QueryType,
    StorageProviderBase,
    StorageQueryValidationResult,
)

FILES = set()


class StorageProvider(StorageProviderBase):
    @classmethod
    def example_queries(cls):
        return [ExampleQuery(query="nothing://x/y", description="a name", type=QueryType.ANY)]

    @classmethod
    def is_valid_query(cls, query):
        return StorageQueryValidationResult(query=query, valid=query.startswith("nothing://"))

    def use_rate_limiter(self):
        return False

    def default_max_requests_per_second(self):
        return 1000.0

    def rate_limiter_key(self, query, operation):
        return "nothing"


class StorageObject(StorageObjectRead, StorageObjectWrite):
    def local_suffix(self):
        return self.query.removeprefix("nothing://")

    def get_inventory_parent(self):
        return None if self.found() else self.cache_key("all")

    async def inventory(self, cache):
        if not self.found():
            cache.exists_in_storage.has_inventory.add(self.get_inventory_parent())

    def found(self):
        return "/in/" in self.query  # what a workflow finds, and no rule makes

    def exists(self):
        return self.query in FILES or self.found()

    def mtime(self):
        return 1.0

    def size(self):
        return 1

    def cleanup(self):
        pass

    def retrieve_object(self):
        pass

    def store_object(self):
        pass

    def remove(self):
        FILES.discard(self.query)
