"""The name by which Snakemake finds the executor `tes-auth`; the code is in snakemake_tes_auth.executor."""

from snakemake_tes_auth.executor import Executor, ExecutorSettings, common_settings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]
