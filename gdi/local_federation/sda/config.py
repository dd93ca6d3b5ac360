"""The settings of the archive stand-in (one YAML file), and the faults that a test may order while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, RootModel

from gdi.kit.models import FilePath, Strict, load_model
from gdi.kit.settings import SettingsError


class TrustedIssuer(Strict):
    """A pair that is believed: visas of `iss` whose keys are at `jku`."""

    iss: str = Field(min_length=1, max_length=500)
    jku: str = Field(pattern=r"^https?://", max_length=500)


class SdaConfig(Strict):
    """Relative paths are taken from the folder of the file.

    `audience`: a token must name it in `aud`; without, any token of the issuer is taken. `flavour` before-3.1.51
    answers an ungranted `/s3` with 200 and a bucket-list XML, as SDA did before that version. `key_file`: the archive's
    Crypt4GH private key, default `ARCHIVE/.keys/archive.sec`.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    archive: FilePath
    issuer: str = Field(pattern=r"^https?://")
    audience: str | None = None
    visa_issuers: list[TrustedIssuer] = Field(max_length=100)
    flavour: Literal["current", "before-3.1.51"] = "current"
    key_file: FilePath | None = None
    ready_file: FilePath | None = None


class SdaFault(Strict):
    """What goes wrong with one file: `not-crypt4gh` 200 with other bytes; `truncated` the stored file lacks its second
    half; `cut` the connection ends half-way; `xml` 200 with a bucket list; `unavailable` 503; `slow` at most
    `bytes_per_second`."""

    kind: Literal["not-crypt4gh", "truncated", "cut", "xml", "unavailable", "slow"]
    bytes_per_second: int = Field(default=65536, ge=1)


class FaultFile(RootModel[dict[str, SdaFault]]):
    """`ARCHIVE/.faults.yaml`: `{"DATASET/path.c4gh": {kind: …}}`, read at each request."""


def load(path: Path) -> SdaConfig:
    """Reads the YAML file. SettingsError where anything is wrong."""
    config = load_model(path, SdaConfig, error=SettingsError)
    if not config.archive.is_dir():
        raise SettingsError(
            f"{path}: archive: {config.archive} is not a folder; fill it with gdi.local_federation.sda.provision"
        )
    return config


def faults(archive: Path) -> dict[str, SdaFault]:
    """The faults ordered now, by `DATASET/path`."""
    file = archive / ".faults.yaml"
    if not file.exists():
        return {}
    return load_model(file, FaultFile, error=SettingsError).root
