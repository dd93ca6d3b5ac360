"""Where the operators find broker, launcher, catalogue and results folder: `GDI_…` in the environment of Airflow's
processes. Nothing secret.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from gdi.kit.settings import EnvironmentSettings, SettingsError


class OperatorSettings(EnvironmentSettings):
    """Prefix `GDI_`. An Airflow connection of type `gdi_token_broker`, where an operator names one, replaces broker_url
    and identity_token_file.
    """

    model_config = SettingsConfigDict(env_prefix="GDI_")
    broker_url: str | None = Field(default=None, description="the broker's public URL")
    identity_token_file: Path | None = Field(
        default=None, description="Airflow's workload identity token, rewritten by who issues it"
    )
    launcher: Literal["process", "kubernetes"] = "process"
    process_host_socket: Path | None = Field(default=None, description="control socket of the process host")
    pod_config: Path | None = Field(
        default=None, description="what Snakemake pods of Kubernetes may have and get (YAML; docs/operate.md)"
    )
    workflows: Path | None = Field(
        default=None,
        description="the workflow catalogue: a folder, a Git checkout, or `bundle:NAME` (or `bundle:NAME/folder`)",
    )
    isolation: Literal["shared", "team"] = Field(
        default="shared", description="a DAG for each workflow, or one for each workflow and team"
    )
    teams: Path | None = Field(
        default=None, description="the teams, their members and workflows (YAML; docs/operate.md)"
    )
    results_dir: Path | None = Field(
        default=None,
        description="where merged answers are written, a folder for each run; of each process its own where a"
        " result store has the answers too",
    )
    result_store: str | None = Field(
        default=None,
        max_length=1000,
        description="where the broker keeps what nodes push, and answers are kept where Airflow's processes share no"
        " disk: a folder, or s3://BUCKET/PREFIX",
    )
    result_store_endpoint: str | None = Field(default=None, max_length=300, description="the S3's URL; unset: AWS")
    result_store_region: str = Field(default="us-east-1", max_length=60)
    result_store_credentials_file: Path | None = Field(
        default=None, description="JSON {access_key, secret_key}, Airflow's own: reads releases/*, writes answers/*"
    )
    broker_patience: float = Field(
        default=90, ge=0, le=900, description="seconds a call to broker or gateway is repeated while it is away"
    )
    max_release_bytes: int = Field(default=4 * 1024**3, ge=1024)
    polls_per_second: float = Field(
        default=6, gt=0, le=100, description="how often a triggerer asks the broker about runs, all together"
    )

    recurring_schedule: str = Field(
        default="* * * * *", description="cron (UTC) of the DAG that starts what standing grants have due; empty: never"
    )
    housekeeping_schedule: str = Field(
        default="17 * * * *", description="cron (UTC) of the DAG that closes what was left open; empty: never"
    )

    def need(self, name: str) -> Path:
        """A path setting that must be there. SettingsError naming it."""
        value: Path | None = getattr(self, name)
        if value is None:
            raise SettingsError(
                f"{self.variable(name)} is not set for Airflow's processes: {type(self).model_fields[name].description}"
            )
        return catalogue_folder(value) if name == "workflows" else value


@lru_cache(maxsize=1)
def settings() -> OperatorSettings:
    """The process's settings, read once. SettingsError naming each mistake."""
    return OperatorSettings.load()


BUNDLE = "bundle:"


def catalogue_folder(named: Path) -> Path:
    """Where the entries lie: the folder itself, its `workflows/` where it has one and no entry of its own (a Git
    checkout), or the same in a DAG bundle.

    SettingsError where the bundle is unknown or cannot be had.
    """
    folder = _bundle(str(named).removeprefix(BUNDLE)) if str(named).startswith(BUNDLE) else named
    inner = folder / "workflows"
    return inner if inner.is_dir() and not any(folder.glob("*/workflow.yaml")) else folder


def _bundle(named: str) -> Path:
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    name, _, inside = named.partition("/")
    try:
        bundle = DagBundlesManager().get_bundle(name)
        if not bundle.path.is_dir():
            bundle.initialize()
    except Exception as error:  # of any bundle class: a clone that fails, a connection that is missing
        known = "see dag_bundle_config_list in [dag_processor] of airflow.cfg"
        raise SettingsError(
            f"GDI_WORKFLOWS: the DAG bundle {name!r} cannot be used ({type(error).__name__}: {error}); {known}"
        ) from None
    return Path(bundle.path) / inside
