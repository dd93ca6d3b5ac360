"""Snakemake's storage provider `sda`: inputs of the archive and the run's workspace as names with size and time.
Contents stay at the node.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_storage_plugins.io import IOCacheStorageInterface, Mtime
from snakemake_interface_storage_plugins.settings import StorageProviderSettingsBase
from snakemake_interface_storage_plugins.storage_object import StorageObjectGlob, StorageObjectRead, StorageObjectWrite
from snakemake_interface_storage_plugins.storage_provider import (
    ExampleQuery,
    QueryType,
    StorageProviderBase,
    StorageQueryValidationResult,
)

from gdi.contracts.urls import StorageUrl, UrlError, WorkspaceUrl
from snakemake_tes_auth.files.listing import ArchiveListing
from snakemake_tes_auth.files.metadata import FileInfo, FileMetadata
from snakemake_tes_auth.files.queries import local_suffix, parse
from snakemake_tes_auth.retry import Refusal
from snakemake_tes_auth.session import Session, session
from snakemake_tes_auth.workflow import adapter


@dataclass
class StorageProviderSettings(StorageProviderSettingsBase):
    """`run_file` in a federated run; else `url` and a user's token. (Snakemake reads these types as objects: no
    postponed annotations in this file.)
    """

    run_file: str | None = field(
        default=None, metadata={"help": "run.json, which names the run, its node's gateway and the broker", "type": str}
    )
    url: str | None = field(
        default=None,
        metadata={
            "help": "the archive's download service (SDA v1), which is asked what a dataset holds; never for data",
            "type": str,
        },
    )
    token: str | None = field(
        default=None,
        repr=False,
        metadata={
            "help": "the user's access token for the archive; set it by the environment variable, never as an argument",
            "type": str,
            "env_var": True,
        },
    )
    token_file: Path | None = field(
        default=None,
        metadata={"help": "a file that holds the user's access token; read again for each request", "type": Path},
    )
    plain_http: bool = field(default=False, metadata={"help": "send the token over plain http to another machine"})


class StorageProvider(StorageProviderBase):
    """`sda://DATASET/path`, `htsget://…` and, in a federated run, `drs://…` and `workspace://RUN/path`: asked of the
    node's gateway, or of the archive itself.
    """

    _session: Session | None = None
    _listing: ArchiveListing | None = None

    @property
    def session(self) -> Session:
        """The federated run's. WorkflowError where there is none."""
        if self._session is None:
            run_file = getattr(self.settings, "run_file", None)
            if run_file is None:
                raise WorkflowError(
                    "workspace:// is a federated run's: give --storage-sda-run-file run.json, or use another storage"
                    " for the workspace"
                )
            self._session = session(Path(run_file))
        return self._session

    @property
    def metadata(self) -> FileMetadata:
        found = self.session.metadata
        assert found is not None
        return found

    def info(self, query: StorageUrl) -> FileInfo | None:
        """Size and time of a file, None where there is none. WorkflowError, naming the dataset, where it may not be
        used.
        """
        if getattr(self.settings, "run_file", None) is None and query.read_only:
            return self._archive(query)
        # What is known needs no way over the session's loop: Snakemake asks some five times for each file.
        return self.metadata.known(query) or self.session.ask(self.metadata.info(query))

    def _archive(self, query: StorageUrl) -> FileInfo | None:
        if query.scheme == "htsget":
            return FileInfo(0, 0.0)  # taken as given: only the TES, as the user, asks there
        if query.scheme == "drs":
            raise WorkflowError(
                f"{query}: which file a DRS object is finds out a node's gateway, and here is none: name the file"
                " itself, sda://DATASET/path, or run the workflow in a federation (--storage-sda-run-file)"
            )
        if self._listing is None:
            url = getattr(self.settings, "url", None)
            if url is None:
                raise WorkflowError(
                    f"{query}: where is the archive? Give --storage-sda-url (and a token), or in a federated run"
                    " --storage-sda-run-file"
                )
            try:
                self._listing = ArchiveListing.of(self.settings)
            except Refusal as error:
                raise WorkflowError(str(error)) from None
        return self._listing.ask(query)

    @classmethod
    def example_queries(cls) -> list[Any]:
        return [
            ExampleQuery(
                query="sda://EGAD00000000001/cohort.vcf.gz.c4gh",
                description="a file of a dataset, read-only",
                type=QueryType.INPUT,
            ),
            ExampleQuery(
                query="htsget://EGAD00000000001/NA12878.bam?referenceName=20&start=0&end=1000000",
                description="reads or variants by htsget, read-only",
                type=QueryType.INPUT,
            ),
            ExampleQuery(
                query="drs://drs.archive.example/314159",
                description="the same file by its DRS id, in a federated run",
                type=QueryType.INPUT,
            ),
            ExampleQuery(
                query="workspace://r-0123456789abcdef0123/counts/1.json",
                description="an intermediate file of the run",
                type=QueryType.ANY,
            ),
        ]

    @classmethod
    def is_valid_query(cls, query: str) -> Any:
        try:
            parse(str(query))
        except UrlError as error:
            return StorageQueryValidationResult(query=str(query), valid=False, reason=str(error))
        return StorageQueryValidationResult(query=str(query), valid=True)

    def use_rate_limiter(self) -> bool:
        return False

    def default_max_requests_per_second(self) -> float:
        return 100.0

    def rate_limiter_key(self, query: str, operation: Any) -> str:
        return "gateway"


class StorageObject(StorageObjectRead, StorageObjectWrite, StorageObjectGlob):
    """One file. WorkflowError, in words for the workflow's author, where something is asked that would move
    contents.
    """

    provider: StorageProvider
    query: str

    def __post_init__(self) -> None:
        try:
            self.parsed = parse(str(self.query))
        except UrlError as error:
            raise WorkflowError(str(error)) from None

    def local_suffix(self) -> str:
        return local_suffix(self.parsed)

    def get_inventory_parent(self) -> str | None:
        return self.cache_key(f"workspace/ of {self.parsed.owner}") if self.parsed.scheme == "workspace" else None

    async def inventory(self, cache: IOCacheStorageInterface) -> None:
        """The whole workspace in a few listings instead of a request for each file."""
        parent = self.get_inventory_parent()
        if parent is None or parent in cache.exists_in_storage.has_inventory:
            return
        dealings = self.provider.session
        for path, info in dealings.ask(self.provider.metadata.listing()).items():
            key = self.cache_key(f"workspace/{path}")
            cache.exists_in_storage[key] = True
            cache.mtime[key] = Mtime(storage=info.mtime)
            if info.size is not None:
                cache.size[key] = info.size
        cache.exists_in_storage.has_inventory.add(parent)

    def _known(self) -> FileInfo:
        info = self.provider.info(self.parsed)
        if info is None:
            raise WorkflowError(f"{self.query} does not exist")
        return info

    def exists(self) -> bool:
        return self.provider.info(self.parsed) is not None

    def mtime(self) -> float:
        return self._known().mtime

    def size(self) -> int:
        info = self._known()
        if info.size is not None:
            return info.size
        dealings = self.provider.session
        found = dealings.ask(self.provider.metadata.size(self.parsed))
        if found is None:
            raise WorkflowError(f"{self.query} does not exist, although the task that makes it ended as COMPLETE")
        return found

    def is_dir(self) -> bool:
        """Whether it is a folder of the workspace."""
        if self.parsed.read_only:
            return False
        return self.provider.session.ask(self.provider.metadata.is_folder(self.parsed))

    def names(self) -> dict[str, int]:
        """What lies in this folder of the workspace: sizes in bytes by path below it."""
        dealings = self.provider.session
        return dealings.ask(self.provider.metadata.within(self.parsed))

    def local_footprint(self) -> int:
        return 0

    def cleanup(self) -> None:
        """Nothing was ever brought here."""

    def retrieve_object(self) -> NoReturn:
        rule = adapter.asking_rule()
        whose = f"the input function of rule {rule} opens {self.query}, which" if rule else str(self.query)
        raise WorkflowError(
            f"{whose} cannot be read where Snakemake runs: contents stay at the node. Read it in a rule's own command"
            " or script. Where the number of jobs depends on it, fix the number beforehand (`scattergather`, or a"
            " parameter of the workflow), so that nothing but names is known here."
        )

    def store_object(self) -> NoReturn:
        raise WorkflowError(
            f"{self.query} cannot be written from where Snakemake runs: only tasks at the node write to the workspace. "
            "Make the file in a rule with a `shell:` or `script:` that is not listed in `localrules`."
        )

    def remove(self) -> None:
        if self.parsed.read_only:
            raise WorkflowError(f"{self.query} is an input of the archive and is never removed")
        dealings = self.provider.session
        dealings.ask(self.provider.metadata.remove(self.parsed))

    def list_candidate_matches(self) -> Iterable[str]:
        if self.parsed.read_only:
            raise WorkflowError(
                f"{self.query}: the archive's files cannot be searched with wildcards; name the files, or make them a"
                " parameter of the workflow"
            )
        dealings = self.provider.session
        return [str(WorkspaceUrl(self.parsed.owner, path)) for path in dealings.ask(self.provider.metadata.listing())]
