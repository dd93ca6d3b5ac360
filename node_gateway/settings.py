"""The gateway's settings: one class, read once from `NODE_GATEWAY_*`, checked at start with a message for each mistake.
Secrets come from files only.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from gdi.contracts.ids import HttpUrl, NodeId
from gdi.kit.secret_files import read_secret, read_secret_text
from gdi.kit.settings import EnvironmentSettings, SettingsError

BucketName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]


class DatabaseSettings(EnvironmentSettings):
    """Where the database is: all that `node-gateway migrate` has to know."""

    model_config = SettingsConfigDict(env_prefix="NODE_GATEWAY_")

    database_url: str = Field(pattern=r"^(sqlite\+aiosqlite:///.+|postgresql\+asyncpg://.+)$", repr=False)
    database_password_file: Path | None = None

    def database_password(self) -> str | None:
        """The password in its file, where one is named. SettingsError where that is not fit."""
        if self.database_password_file is None:
            return None
        return read_secret_text(self.database_password_file, "DATABASE_PASSWORD_FILE")


class Settings(DatabaseSettings):
    """`NODE_GATEWAY_<NAME>`. URLs have no trailing slash; times are seconds.

    `PUBLIC_URL` is the audience of run tokens. Exactly one of `INTERNAL_SOCKET` and `INTERNAL_PORT` (loopback unless
    `INTERNAL_HOST` says otherwise) is the listener for this node's TES and operators; with `INTERNAL_TLS_…` only
    clients with a certificate of that authority get in. `OPERATIONS_PORT` (at `OPERATIONS_HOST`) is one more listener,
    for monitoring: `/metrics`, and `/readyz` with its reasons, which the internal one has too. `SDA_PREFIX` is `s3` for
    archives newer than v0.3.179. `DATASETS_FOLDER` has the descriptors of datasets, `datasets` beside the policy
    unless it is set.
    `SDA_API`: of the archive's download service. `SDA_OTHER_URLS` (JSON list): further servers of the same archive,
    asked where one is down.
    `DOOR_SECRET_FILE`: a secret of 32 letters or more, for an nginx before the bytes (`node-gateway nginx-config`).
    `SLOW_READER_SECONDS`: for so long a TES may take nothing of a download before it is cut off.
    `HTSGET_URL`: the archive's htsget server (before `/reads`); without it `htsget://` inputs are refused.
    `HTSGET_BLOCK_URLS` (JSON list): where else its tickets may lead. `HTSGET_ENCRYPTION`: `header`, the server gives
    Crypt4GH for the key in `Client-Public-Key`; `scheme`, it needs `encryptionScheme=C4GH` too (htsget-rs); `none`, it
    gives plain data, which then cross the node's own network.
    `OIDC_…`: where reviewers sign in (`/review`; redirect URI `PUBLIC_URL/review/callback`); without it only the
    internal listener takes decisions. `OIDC_CLIENT_KEY_FILE` is a private key (private_key_jwt), in place of a secret.
    `LAUNCHER_…`: for `node-gateway agent`, which starts Snakemake here (policy `placement: node`): with
    `LAUNCHER=process` the process host's control socket, with `pods` the pods of the cluster around the agent as
    `LAUNCHER_PODS_FILE` says (gdi.pods.config); and who signs their identity tokens, by a key set in a file, or at an
    API server's `LAUNCHER_JWKS_URL` with its authority and the token that it wants; `AGENT_FOLDER` keeps workflows'
    files, and `AGENT_GATEWAY_URL` is where the agent finds this gateway (loopback and `PORT` unless it is set).
    `DATABASE_URL`: an SQLite file serves one gateway; PostgreSQL (`postgresql+asyncpg://user@host/name`, the password
    in `DATABASE_PASSWORD_FILE`) as many as share it.
    """

    node_id: NodeId
    host: str = "127.0.0.1"
    port: int = Field(ge=1, le=65535)
    public_url: HttpUrl
    internal_socket: Path | None = None
    internal_host: str = "127.0.0.1"
    internal_port: int | None = Field(default=None, ge=1, le=65535)
    internal_tls_cert_file: Path | None = None
    internal_tls_key_file: Path | None = None
    internal_client_ca_file: Path | None = None
    operations_host: str = "127.0.0.1"
    operations_port: int | None = Field(default=None, ge=1, le=65535)
    broker_url: HttpUrl
    broker_issuer: HttpUrl | None = None
    key_file: Path
    policy_file: Path
    datasets_folder: Path | None = None
    tes_url: HttpUrl
    tes_user: str = Field(min_length=1, max_length=200)
    tes_password_file: Path
    tes_public_key_file: Path
    tes_flavour: Literal["ga4gh", "funnel"] = "ga4gh"
    sda_url: HttpUrl
    sda_api: Literal["v1", "v2"] = "v1"
    sda_other_urls: list[HttpUrl] = Field(default=[], max_length=20)
    sda_prefix: Literal["s3-encrypted", "s3"] = "s3-encrypted"
    htsget_url: HttpUrl | None = None
    htsget_block_urls: list[HttpUrl] = Field(default=[], max_length=20)
    htsget_encryption: Literal["header", "scheme", "none"] = "header"
    s3_endpoint: HttpUrl
    s3_region: str = "us-east-1"
    s3_credentials_file: Path
    workspace_bucket: BucketName
    release_bucket: BucketName
    oidc_issuer: HttpUrl | None = None
    oidc_client_id: str | None = Field(default=None, min_length=1, max_length=200)
    oidc_client_key_file: Path | None = None
    oidc_client_secret_file: Path | None = None
    launcher: Literal["process", "pods"] = "process"
    launcher_pods_file: Path | None = None
    launcher_socket: Path | None = None
    launcher_issuer: str | None = Field(default=None, max_length=300)
    launcher_jwks_file: Path | None = None
    launcher_jwks_url: str | None = Field(default=None, max_length=300, pattern=r"^https://[^\s?#@]+$")
    launcher_ca_file: Path | None = None
    launcher_token_file: Path | None = None
    launcher_subject: str = Field(default="system:serviceaccount:gdi:snakemake", max_length=300)
    agent_folder: Path | None = None
    agent_gateway_url: HttpUrl | None = None
    agent_max_runs: int = Field(default=20, ge=1, le=10_000)
    run_check_seconds: float = Field(default=5, ge=0, le=60)
    broker_wait_seconds: float = Field(default=20, ge=0, le=300)
    shutdown_seconds: int = Field(default=20, ge=1, le=600)
    door_secret_file: Path | None = None
    slow_reader_seconds: float = Field(default=300, ge=1, le=86400)
    max_streams: int = Field(default=64, ge=1, le=10_000)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.internal_socket is None) == (self.internal_port is None):
            raise ValueError("set exactly one of INTERNAL_SOCKET and INTERNAL_PORT")
        tls = (self.internal_tls_cert_file, self.internal_tls_key_file, self.internal_client_ca_file)
        if any(tls) and (not all(tls) or self.internal_port is None):
            raise ValueError(
                "set all of INTERNAL_TLS_CERT_FILE, INTERNAL_TLS_KEY_FILE and INTERNAL_CLIENT_CA_FILE, with"
                " INTERNAL_PORT, or none of them"
            )
        if self.workspace_bucket == self.release_bucket:
            raise ValueError(
                "WORKSPACE_BUCKET and RELEASE_BUCKET must differ: what is released is kept apart from what never leaves"
            )
        proofs = [f for f in (self.oidc_client_key_file, self.oidc_client_secret_file) if f is not None]
        given = [self.oidc_issuer is not None, self.oidc_client_id is not None, bool(proofs)]
        if any(given) and not (all(given) and len(proofs) == 1):
            raise ValueError(
                "set OIDC_ISSUER, OIDC_CLIENT_ID and one of OIDC_CLIENT_KEY_FILE and OIDC_CLIENT_SECRET_FILE"
                " (reviewers sign in there), or none of them"
            )
        urls = ("public_url", "broker_url", "broker_issuer", "tes_url", "sda_url", "htsget_url", "s3_endpoint")
        for name in (*urls, "oidc_issuer"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, value.rstrip("/"))
        return self

    def door_secret(self) -> str | None:
        """What nginx shows; None where there is no nginx. SettingsError where the file is not fit."""
        if self.door_secret_file is None:
            return None
        secret = read_secret_text(self.door_secret_file, "DOOR_SECRET_FILE")
        if not re.fullmatch(r"[A-Za-z0-9_-]{32,200}", secret):
            raise SettingsError("DOOR_SECRET_FILE: 32 to 200 of A-Z a-z 0-9 _ -, such as `openssl rand -hex 32` gives")
        return secret

    @property
    def issuer(self) -> str:
        """The `iss` of run tokens and `aud` of our assertions: the broker's public URL."""
        return self.broker_issuer or self.broker_url


def s3_credentials(path: Path) -> tuple[str, str]:
    """(access key, secret key) from `{"access_key": …, "secret_key": …}`."""
    try:
        value = json.loads(read_secret(path, "S3_CREDENTIALS_FILE"))
        return str(value["access_key"]), str(value["secret_key"])
    except (ValueError, KeyError, TypeError):
        raise SettingsError(f'S3_CREDENTIALS_FILE: {path} is not {{"access_key": …, "secret_key": …}}') from None
