"""The name by which Snakemake finds the logger `airflow`; the code is in snakemake_tes_auth.logger.logger."""

from snakemake_tes_auth.logger.logger import LogHandler, LogHandlerSettings

__all__ = ["LogHandler", "LogHandlerSettings"]
