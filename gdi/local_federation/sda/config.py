"""The settings of the archive stand-in (one YAML file), and the faults that a test may order while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError


class ConfigError(Exception):
    """A setting that is wrong; names the file, the field and what is expected."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class VisaIssuer(Strict):
    """A pair that is believed: visas of `iss` whose keys are at `jku`."""

    iss: str = Field(min_length=1, max_length=500)
    jku: str = Field(pattern=r"^https?://", max_length=500)


class Config(Strict):
    """Relative paths are taken from the folder of the file.

    `audience`: a token must name it in `aud`; without, any token of the issuer is taken. `flavour` before-3.1.51
    answers an ungranted `/s3` with 200 and a bucket-list XML, as SDA did before that version. `key_file`: the archive's
    Crypt4GH private key, default `ARCHIVE/.keys/archive.sec`.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    archive: Path
    issuer: str = Field(pattern=r"^https?://")
    audience: str | None = None
    visa_issuers: list[VisaIssuer] = Field(max_length=100)
    flavour: Literal["current", "before-3.1.51"] = "current"
    key_file: Path | None = None
    ready_file: Path | None = None


class Fault(Strict):
    """What goes wrong with one file: `not-crypt4gh` 200 with other bytes; `truncated` the stored file lacks its second
    half; `cut` the connection ends half-way; `xml` 200 with a bucket list; `unavailable` 503; `slow` at most
    `bytes_per_second`."""

    kind: Literal["not-crypt4gh", "truncated", "cut", "xml", "unavailable", "slow"]
    bytes_per_second: int = Field(default=65536, ge=1)


class FaultFile(RootModel[dict[str, Fault]]):
    """`ARCHIVE/.faults.yaml`: `{"DATASET/path.c4gh": {kind: …}}`, read at each request."""


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {getattr(error, 'problem', 'syntax error')}") from None


def _mistakes(path: Path, error: ValidationError) -> ConfigError:
    lines = [
        f"{'.'.join(str(p) for p in e['loc']) or 'file'}: {e['msg']}" for e in error.errors(include_input=False)[:20]
    ]
    return ConfigError(f"{path}: " + "; ".join(lines))


def load(path: Path) -> Config:
    """Reads the YAML file. ConfigError where anything is wrong."""
    try:
        config = Config.model_validate(_read(path))
    except ValidationError as error:
        raise _mistakes(path, error) from None
    base = path.resolve().parent
    config.archive = base / config.archive
    config.ready_file = base / config.ready_file if config.ready_file else None
    config.key_file = base / config.key_file if config.key_file else None
    if not config.archive.is_dir():
        raise ConfigError(
            f"{path}: archive: {config.archive} is not a folder; fill it with gdi.local_federation.sda.provision"
        )
    return config


def faults(archive: Path) -> dict[str, Fault]:
    """The faults ordered now, by `DATASET/path`."""
    file = archive / ".faults.yaml"
    if not file.exists():
        return {}
    try:
        return FaultFile.model_validate(_read(file) or {}).root
    except ValidationError as error:
        raise _mistakes(file, error) from None
