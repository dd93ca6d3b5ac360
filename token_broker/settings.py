"""The broker's settings: environment variables `TOKEN_BROKER_*`, read once, checked at start. Secrets are named by
file, never given.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from gdi.kit.secret_files import read_secret, read_secret_text
from gdi.kit.settings import EnvironmentSettings, SettingsError
from gdi.kit.web_url import secure_url
from gdi.oauth.client_auth import ClientAuthentication, rfc7523
from gdi.oauth.client_auth.rfc6749 import ClientSecretBasic
from gdi.result_store.location import opened_by
from token_broker.notices.mail import Mailer

VAULT_FILES = {"approle": ("vault_role_id_file", "vault_secret_id_file"), "kubernetes": ("vault_token_file",)}


class DatabaseSettings(EnvironmentSettings):
    """Where the database is: all that `token-broker migrate` has to know."""

    model_config = SettingsConfigDict(env_prefix="TOKEN_BROKER_")
    heading: ClassVar[str] = "The broker's settings are wrong:"

    database_url: str = Field(description="postgresql+asyncpg://user@host/name or sqlite+aiosqlite:///path", repr=False)
    database_password_file: Path | None = None


class Settings(DatabaseSettings):
    """One field for each `TOKEN_BROKER_<NAME>`. Durations are seconds."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    public_url: str
    vault_addr: str
    vault_mount: str = "gdi"
    vault_auth: Literal["approle", "kubernetes"] = "approle"
    vault_role_id_file: Path | None = None
    vault_secret_id_file: Path | None = None
    vault_namespace: str | None = Field(
        default=None, description="of Vault Enterprise, HCP or OpenBao; mount and auth method lie within it"
    )
    vault_auth_mount: str | None = Field(
        default=None, description="where the auth method is mounted; kubernetes or approle where nothing is said"
    )
    vault_role: str = Field(
        default="token-broker", description="the role there that is bound to the broker's service account"
    )
    vault_token_file: Path | None = Field(
        default=None, description="the pod's projected service account token for Vault"
    )
    vault_ca_file: Path | None = Field(
        default=None, description="the authority of Vault's certificate, where it is a private one"
    )
    oidc_issuer: str
    client_id: str
    client_key_file: Path | None = Field(
        default=None, description="the private key (PEM or JWK) of the broker's client: private_key_jwt (RFC 7523)"
    )
    client_secret_file: Path | None = Field(
        default=None, validate_default=True, description="its secret: client_secret_basic; this or the key"
    )
    enrolment_file: Path
    run_token_lifetime: float = Field(default=300, ge=5, le=3600)
    refresh_token_lifetime: float = Field(default=3600, ge=5)
    access_token_lifetime: float = Field(
        default=300, ge=5, le=86400, description="of an access token whose lifetime the provider does not tell"
    )
    ticket_lifetime: float = Field(default=600, ge=5, le=86400)
    narrowing: Literal["exchange", "resource", "accepted-broad"] = "exchange"
    visa_max_age: float | None = Field(
        default=None, gt=0, description="a visa ends this long after it was asserted, whatever its exp"
    )
    visa_leeway: float = Field(
        default=60, ge=0, le=600, description="seconds that the clock of a visa's issuer may be ahead of ours"
    )
    portal_url: str | None = Field(default=None, description="where people start analyses; named at `/`")
    smtp_host: str | None = Field(default=None, max_length=255, description="people are told by mail; unset: no mail")
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_tls: Literal["starttls", "tls", "none"] = Field(default="starttls", description="none: on this machine only")
    smtp_sender: str = Field(default="gdi@localhost", pattern=r"^[^\s@<>]+@[^\s@<>]+$", max_length=320)
    smtp_user: str | None = Field(default=None, max_length=255)
    smtp_password_file: Path | None = None
    smtp_ca_file: Path | None = None
    private_webhooks: bool = Field(
        default=False, description="people's webhooks may lie in this network, and without TLS: for trying things out"
    )
    max_grant_days: float = Field(default=366, gt=0)
    max_events_per_run: int = Field(default=1_000_000, ge=100)
    max_event_bytes: int = Field(default=256 * 1024, ge=1024, description="of one event as it is stored")
    max_event_bytes_per_run: int = Field(default=64 * 1024 * 1024, ge=1024)
    user_requests_per_minute: float = Field(default=600, ge=1, description="half of them may come at once; so below")
    portal_requests_per_minute: float = Field(default=12_000, ge=1)
    gateway_requests_per_minute: float = Field(default=60_000, ge=1)
    user_tickets_per_minute: float = Field(default=120, ge=1)
    result_store: str | None = Field(
        default=None,
        max_length=1000,
        description="where what nodes with an agent of their own push lies: a folder, or s3://BUCKET/PREFIX",
    )
    result_store_endpoint: str | None = Field(default=None, max_length=300, description="the S3's URL; unset: AWS")
    result_store_region: str = Field(default="us-east-1", max_length=60)
    result_store_credentials_file: Path | None = Field(
        default=None, description="JSON {access_key, secret_key}; they need releases/* only"
    )
    max_release_bytes: int = Field(
        default=4 * 1024**3, ge=1024, description="of all releases that a node pushes for one run"
    )
    operations_host: str = "127.0.0.1"
    operations_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="one more listener, for monitoring: /metrics, /readyz with its reasons",
    )
    lease_seconds: float = Field(
        default=30,
        ge=2,
        le=300,
        description="how long one replica may hold a grant's refresh; longer than a request to the provider lasts",
    )
    drain_seconds: float = Field(
        default=0,
        ge=0,
        le=120,
        description="after SIGTERM: still answering, while the balancer learns of it; not ready any more",
    )
    provider_timeout: float = Field(default=10, ge=0.5, le=60)

    @field_validator("public_url", "vault_addr", "oidc_issuer", "portal_url")
    @classmethod
    def _secure_url(cls, value: str | None) -> str | None:
        return None if value is None else secure_url(value)

    @field_validator("client_secret_file")
    @classmethod
    def _one_way_to_authenticate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if (value is None) == (info.data.get("client_key_file") is None):
            raise ValueError("set either this or TOKEN_BROKER_CLIENT_KEY_FILE, and not both")
        return value

    @model_validator(mode="after")
    def _mail_is_private(self) -> Self:
        local = self.smtp_host in (None, "localhost", "127.0.0.1", "::1")
        if self.smtp_tls == "none" and not local:
            raise ValueError("smtp_tls: none is for a mail server on this machine only")
        if (self.smtp_user is None) != (self.smtp_password_file is None):
            raise ValueError("smtp_user and smtp_password_file go together")
        return self

    def mailer(self) -> Mailer | None:
        """None where no mail is sent."""
        if self.smtp_host is None:
            return None
        return Mailer(
            self.smtp_host,
            self.smtp_port,
            self.smtp_sender,
            self.smtp_tls,
            self.smtp_user,
            self.smtp_password_file,
            self.smtp_ca_file,
        )

    def check_files(self) -> None:
        self.client_authentication()
        opened_by(self)
        for name in VAULT_FILES[self.vault_auth]:
            if (path := getattr(self, name)) is None:
                raise SettingsError(
                    f"TOKEN_BROKER_{name.upper()} must be set: TOKEN_BROKER_VAULT_AUTH is {self.vault_auth}."
                )
            read_secret_text(path, self.variable(name), of_cluster=name == "vault_token_file")

    def client_authentication(self) -> ClientAuthentication:
        """How the broker proves to the provider who it is. SettingsError where the file is not fit."""
        if (key := self.client_key_file) is not None:
            try:
                rfc7523.load(read_secret(key, "TOKEN_BROKER_CLIENT_KEY_FILE"))
            except ValueError as error:
                raise SettingsError(f"TOKEN_BROKER_CLIENT_KEY_FILE: {key}: {error}.") from None
            return rfc7523.PrivateKeyJwt(lambda: read_secret(key, "TOKEN_BROKER_CLIENT_KEY_FILE"))
        secret = self.client_secret_file
        assert secret is not None  # one of the two, by the validator above
        read_secret_text(secret, "TOKEN_BROKER_CLIENT_SECRET_FILE")
        return ClientSecretBasic(lambda: read_secret_text(secret, "TOKEN_BROKER_CLIENT_SECRET_FILE"))
