"""The name by which Snakemake finds the storage provider `sda`; the code is in snakemake_tes_auth.storage.storage."""

from snakemake_tes_auth.storage.storage import StorageObject, StorageProvider, StorageProviderSettings

__all__ = ["StorageObject", "StorageProvider", "StorageProviderSettings"]
