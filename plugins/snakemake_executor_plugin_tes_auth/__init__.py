"""The name by which Snakemake finds the executor `tes-auth`; the code is in snakemake_tes_auth.executor.executor."""

from snakemake_tes_auth.executor.executor import Executor, ExecutorSettings, common_settings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]
