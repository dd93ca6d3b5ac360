"""The process host's settings: one YAML file, named on the command line, checked at start."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from gdi.kit.models import FilePath, Strict, load_model
from gdi.kit.settings import SettingsError
from gdi.runner.sandbox import Maker

MAX_SOCKET_PATH = 107  # sun_path on Linux, without its closing zero
ENTRY = (sys.executable, "-m", "snakemake_tes_auth.pod")
PACKAGES = (
    "gdi.kit",
    "gdi.contracts",
    "gdi.broker_client",
    "snakemake_tes_auth",
    "snakemake_executor_plugin_tes_auth",
    "snakemake_storage_plugin_sda",
    "snakemake_logger_plugin_airflow",
)


class Allowed(Strict):
    """A TCP destination that a pod may be relayed to."""

    host: str
    port: int = Field(ge=1, le=65535)


class HostConfig(Strict):
    """`--config FILE` (YAML). Relative paths are taken from the file's folder.

    socket: the control socket (mode 0600; whoever may open it may start pods). state_dir: pods, work folders, logs,
    mode 0700. workflows: the catalogue's folder. issuer: `iss` of the identity tokens. key_file: ES256 private key
    (PEM, 0600), made when absent. jwks_file: its public half, written for the broker's enrolment.
    airflow_token_file: Airflow's own identity token, kept fresh; none for a node's own host. broker, gateways: the
    only destinations a pod is relayed to, the gateway by its URL as the plan names it.
    """

    socket: FilePath
    state_dir: FilePath
    workflows: FilePath
    issuer: str
    key_file: FilePath
    jwks_file: FilePath
    airflow_token_file: FilePath | None = None
    broker: Allowed
    gateways: dict[str, Allowed] = Field(description="gateway_url of the plan → where it listens")
    namespace: str = "gdi"
    audience: str = "token-broker"
    token_lifetime: float = Field(default=600, ge=10, le=3600)
    max_pods: int = Field(default=50, ge=1, le=1000)
    max_log_bytes: int = Field(default=4 * 1024 * 1024, ge=4096)
    max_grace: float = Field(default=60, ge=0, le=600)
    tmp_bytes: int = Field(default=1024 * 1024 * 1024, ge=1024 * 1024)
    keep_pods: int = Field(default=200, ge=1, description="ended pods that are remembered")
    entry: list[str] = Field(default_factory=lambda: list(ENTRY), min_length=1)
    packages: list[str] = Field(default_factory=lambda: list(PACKAGES))
    sandbox: Maker | None = Field(
        default=None, discriminator="kind", description="who makes the pods' sandboxes; None: whoever can here"
    )
    log_level: Literal["debug", "info", "warning"] = "info"

    @field_validator("socket")
    @classmethod
    def _short(cls, value: Path) -> Path:
        if len(str(value).encode()) > MAX_SOCKET_PATH:
            raise ValueError(
                f"is longer than {MAX_SOCKET_PATH} bytes, which Linux allows for a unix socket; choose a shorter folder"
            )
        return value


def load(file: Path) -> HostConfig:
    """Reads the configuration. SettingsError naming file and field."""
    return load_model(file, HostConfig, error=SettingsError)
