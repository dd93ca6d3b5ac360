"""The TES's settings: one YAML file, read once, checked at start with a message for each mistake."""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path
from typing import Annotated

from pydantic import Field

from gdi.kit.models import Strict, load_model
from gdi.kit.settings import SettingsError
from gdi.runner.sandbox import Maker

GIB = 1024**3
UNBOUNDED = "unbounded.txt"  # in state_dir: what of tasks cannot be bounded here, a sentence a line


class Introspection(Strict):
    """Where bearer tokens are introspected (RFC 7662), by HTTP Basic client authentication."""

    url: str
    client_id: str
    client_secret_file: Path
    audience: str  # a token must be for this audience
    cache_seconds: float = Field(default=5, ge=0, le=60)


class ServiceAccount(Strict):
    """A user of HTTP Basic authentication: the node's gateway. Sees and cancels every task."""

    user: Annotated[str, Field(pattern=r"^[A-Za-z0-9._@-]{1,100}$")]
    password_file: Path


class S3(Strict):
    """The node's object store. The file holds `{"access_key": …, "secret_key": …}`, mode 0600."""

    endpoint: str
    credentials_file: Path
    region: str = "us-east-1"


class ArchiveConfig(Strict):
    """Where `sda://` and `htsget://` are fetched: `http(s)://host:port[/prefix]`, or `http+unix://%2Fpath%2Fto.sock`
    (the gateway's internal listener).
    """

    url: str = Field(pattern=r"^(https?|http\+unix)://")
    secret_key_file: Path  # Crypt4GH private key without passphrase, mode 0600
    public_key_file: Path
    retry_seconds: float = Field(default=120, ge=0, le=3600)  # how long an archive that is away is waited for


class Image(Strict):
    """What an image name stands for here: extra read-only folders (host path = path in the task) and the PATH. `match`
    is a shell pattern.
    """

    match: str
    folders: list[Path] = Field(default_factory=list)
    path: str | None = None


class LimitsConfig(Strict):
    task_seconds: int = Field(default=86_400, ge=1)
    disk_bytes: int = Field(
        default=100 * GIB, ge=1
    )  # of a task's inputs, of its outputs and of each single file it writes
    transfer_files: int = Field(default=10_000, ge=1)  # in a directory input or output
    processes: int = Field(default=4096, ge=1)
    memory_bytes: int = Field(default=4 * GIB, ge=1)  # of a task that names no ram_gb; resident, all its processes
    files: int = Field(default=100_000, ge=1)  # that a task may make
    cgroups: bool = True  # where they can be had; else the supervisor measures and ends
    enforce_ram: bool = (
        False  # resources.ram_gb as a bound on address space; programs that map large files need more than they use
    )
    queued_tasks: int = Field(default=200_000, ge=1)


class TesConfig(Strict):
    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)
    port_file: Path | None = None  # where the port is written once it listens: for port 0
    state_dir: Path
    slots: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=1024)
    introspection: Introspection | None = None
    service_accounts: list[ServiceAccount] = Field(default_factory=list)
    archive: ArchiveConfig | None = None
    s3: S3 | None = None
    images: list[Image] = Field(default_factory=lambda: [Image(match="*")])
    limits: LimitsConfig = LimitsConfig()
    sandbox: Maker | None = Field(
        default=None, discriminator="kind"
    )  # who makes the tasks' sandboxes; None: whoever can here
    keep_finished_days: float = Field(default=30, gt=0)

    def image(self, name: str) -> Image | None:
        """The first entry of the image table that matches; None: this node does not run it."""
        return next((i for i in self.images if fnmatch.fnmatchcase(name, i.match)), None)


def load(file: Path) -> TesConfig:
    """Reads the file. SettingsError naming each wrong field."""
    config = load_model(file, TesConfig, error=SettingsError)
    if config.introspection is None and not config.service_accounts:
        raise SettingsError(f"{file}: nobody could sign in; set introspection or service_accounts")
    return config
