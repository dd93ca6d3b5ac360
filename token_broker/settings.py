"""The broker's settings: environment variables `TOKEN_BROKER_*`, read once, checked at start. Secrets are named by file, never given."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsError(Exception):
    """The broker cannot start as configured; the message names each setting at fault."""


class Settings(BaseSettings):
    """One field for each `TOKEN_BROKER_<NAME>`. Durations are seconds."""

    model_config = SettingsConfigDict(env_prefix="TOKEN_BROKER_", extra="ignore", hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    public_url: str
    database_url: str = Field(description="postgresql+asyncpg://user@host/name or sqlite+aiosqlite:///path", repr=False)
    database_password_file: Path | None = None
    vault_addr: str
    vault_mount: str = "gdi"
    vault_role_id_file: Path
    vault_secret_id_file: Path
    oidc_issuer: str
    client_id: str
    client_secret_file: Path
    enrolment_file: Path
    run_token_lifetime: float = Field(default=300, ge=5, le=3600)
    refresh_token_lifetime: float = Field(default=3600, ge=5)
    ticket_lifetime: float = Field(default=600, ge=5, le=86400)
    narrowing: Literal["exchange", "accepted-broad"] = "exchange"
    visa_max_age: float | None = Field(default=None, gt=0, description="a visa ends this long after it was asserted, whatever its exp")
    max_grant_days: float = Field(default=366, gt=0)
    max_events_per_run: int = Field(default=1_000_000, ge=100)
    lease_seconds: float = Field(
        default=30, ge=2, le=300, description="how long one replica may hold a grant's refresh; longer than a request to the provider lasts"
    )
    provider_timeout: float = Field(default=10, ge=0.5, le=60)

    @field_validator("public_url", "vault_addr", "oidc_issuer")
    @classmethod
    def _secure_url(cls, value: str) -> str:
        return secure_url(value)

    @classmethod
    def load(cls) -> Settings:
        """The settings from the environment. SettingsError with one line for each mistake."""
        try:
            settings = cls()
        except ValidationError as error:
            lines = [f"TOKEN_BROKER_{'_'.join(str(p) for p in e['loc']).upper()}: {e['msg']}" for e in error.errors()]
            raise SettingsError("The broker's settings are wrong:\n  " + "\n  ".join(lines)) from None
        for name in ("vault_role_id_file", "vault_secret_id_file", "client_secret_file"):
            read_secret(getattr(settings, name), f"TOKEN_BROKER_{name.upper()}")
        return settings


def secure_url(value: str) -> str:
    """An https URL, or http on loopback; without a slash at its end."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http(s) URL")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1") and not parts.hostname.endswith(".svc"):
        raise ValueError("must be https, except on loopback or for a service of the same cluster (….svc)")
    if parts.username or parts.password or parts.fragment:
        raise ValueError("must not carry a user, a password or a fragment")
    return value.rstrip("/")


def read_secret(path: Path, name: str) -> str:
    """The secret in a file that others cannot read. SettingsError says which file and what to do; never the content."""
    try:
        mode = path.stat().st_mode
        value = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name}: cannot read {path} ({type(error).__name__}). Make the file readable for the broker.") from None
    if stat.S_IMODE(mode) & 0o007:
        raise SettingsError(f"{name}: {path} is open to every user of the machine. Run: chmod 600 {path}")
    if not value:
        raise SettingsError(f"{name}: {path} is empty.")
    return value
