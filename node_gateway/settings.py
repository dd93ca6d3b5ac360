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
from gdi.contracts.urls import DRS_SERVER
from gdi.kit.secret_files import read_secret, read_secret_text
from gdi.kit.settings import EnvironmentSettings, SettingsError

BucketName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
DrsServerName = Annotated[str, Field(pattern=f"^{DRS_SERVER}$", max_length=300)]


class DatabaseSettings(EnvironmentSettings):
    """Where the database is: all that `node-gateway migrate` has to know."""

    model_config = SettingsConfigDict(env_prefix="NODE_GATEWAY_")

    database_url: str = Field(
        pattern=r"^(sqlite\+aiosqlite:///.+|postgresql\+asyncpg://.+)$",
        repr=False,
        description="`sqlite+aiosqlite:///PATH` serves one gateway; `postgresql+asyncpg://USER@HOST/NAME` as"
        " many as share it",
    )
    database_password_file: Path | None = Field(default=None, description="PostgreSQL's password")

    def database_password(self) -> str | None:
        """The password in its file, where one is named. SettingsError where that is not fit."""
        if self.database_password_file is None:
            return None
        return read_secret_text(self.database_password_file, "DATABASE_PASSWORD_FILE")


class Settings(DatabaseSettings):
    """`NODE_GATEWAY_<NAME>`; each field says what it is (docs/node-settings.md is made of them). URLs have no trailing
    slash; times are seconds; secrets are files of mode 0600.
    """

    node_id: NodeId = Field(description="the node's id, as the broker's enrolment has it")
    host: str = Field(
        default="127.0.0.1", description="where runs reach the gateway; behind a reverse proxy the loopback"
    )
    port: int = Field(ge=1, le=65535, description="of the public listener")
    public_url: HttpUrl = Field(
        description="the audience of run tokens, without a slash at its end: what the enrolment has as `gateway_url`"
    )
    internal_socket: Path | None = Field(
        default=None, description="the listener for the TES and operators; exactly one of this and `INTERNAL_PORT`"
    )
    internal_host: str = Field(default="127.0.0.1", description="of `INTERNAL_PORT`")
    internal_port: int | None = Field(
        default=None, ge=1, le=65535, description="the listener for the TES and operators, as a port"
    )
    internal_tls_cert_file: Path | None = Field(
        default=None, description="with the next two: only clients with a certificate of that authority get in"
    )
    internal_tls_key_file: Path | None = Field(default=None, description="the certificate's key")
    internal_client_ca_file: Path | None = Field(default=None, description="the authority of clients' certificates")
    operations_host: str = Field(default="127.0.0.1", description="of `OPERATIONS_PORT`")
    operations_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="one more listener, for monitoring: `/metrics`, and `/readyz` with its reasons",
    )
    broker_url: HttpUrl = Field(description="the token broker's address")
    broker_issuer: HttpUrl | None = Field(
        default=None, description="the broker's public URL, where the gateway reaches it by another"
    )
    key_file: Path = Field(description="the node's own key, which `node-gateway init-key FILE` makes")
    policy_file: Path = Field(description="what strangers may do here (below)")
    datasets_folder: Path | None = Field(
        default=None, description="descriptors of datasets; `datasets` beside the policy where nothing is said"
    )
    tes_url: HttpUrl = Field(description="the node's own TES, before `/ga4gh/tes/v1`")
    tes_user: str = Field(min_length=1, max_length=200, description="the gateway's user there")
    tes_password_file: Path = Field(description="its password")
    tes_public_key_file: Path = Field(description="the Crypt4GH public key to which the TES's data is encrypted")
    tes_flavour: Literal["ga4gh", "funnel"] = Field(
        default="ga4gh", description="`funnel`: knows that it keeps capabilities out of its listings"
    )
    sda_url: HttpUrl = Field(description="the archive's download service")
    sda_api: Literal["v1", "v2"] = Field(default="v1", description="its version")
    sda_other_urls: list[HttpUrl] = Field(
        default=[],
        max_length=20,
        description="further servers of the same archive, asked where one is down (JSON list)",
    )
    sda_prefix: Literal["s3-encrypted", "s3"] = Field(
        default="s3-encrypted", description="`s3` for archives newer than v0.3.179"
    )
    htsget_url: HttpUrl | None = Field(
        default=None,
        description="the archive's htsget server, before `/reads`; without it `htsget://` inputs are refused",
    )
    htsget_block_urls: list[HttpUrl] = Field(
        default=[], max_length=20, description="where else its tickets may lead (JSON list)"
    )
    htsget_encryption: Literal["header", "scheme", "none"] = Field(
        default="header",
        description="`header`: Crypt4GH for the key in `Client-Public-Key`; `scheme`: it needs"
        " `encryptionScheme=C4GH` too (htsget-rs); `none`: plain data, which then cross the node's own network",
    )
    drs_servers: dict[DrsServerName, HttpUrl] = Field(
        default={},
        max_length=100,
        description="which DRS servers are asked what a `drs://` input is, none but these (JSON object): by host, or by"
        " `[PROVIDER/]NAMESPACE` of compact identifiers, where the server has its objects, such as"
        ' `{"drs.archive.example": "https://drs.archive.example/ga4gh/drs/v1/objects"}`; of an SDA with API v2'
        " `https://…/objects/{dataset}/{path}`",
    )
    s3_endpoint: HttpUrl = Field(description="the node's own S3")
    s3_region: str = Field(default="us-east-1", description="its region")
    s3_credentials_file: Path = Field(description='`{"access_key": …, "secret_key": …}`')
    workspace_bucket: BucketName = Field(description="intermediate files; they never leave")
    release_bucket: BucketName = Field(description="what was released; another bucket than the workspace")
    oidc_issuer: HttpUrl | None = Field(
        default=None,
        description="where reviewers and the access committee sign in (`/review`); without it only the"
        " internal listener takes decisions",
    )
    oidc_client_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="the client there; its redirect URI is `PUBLIC_URL/review/callback`",
    )
    oidc_client_key_file: Path | None = Field(
        default=None, description="its private key (private_key_jwt); this or the secret"
    )
    oidc_client_secret_file: Path | None = Field(default=None, description="its secret")
    launcher: Literal["process", "pods"] = Field(
        default="process",
        description="how `node-gateway agent` starts Snakemake (policy `placement: node`): by a process host, or as"
        " pods of the cluster around it",
    )
    launcher_pods_file: Path | None = Field(
        default=None, description="for `pods`: what they are like (gdi.pods.config)"
    )
    launcher_socket: Path | None = Field(default=None, description="for `process`: the process host's control socket")
    launcher_issuer: str | None = Field(
        default=None, max_length=300, description="who signs the identity tokens of this node's own pods"
    )
    launcher_jwks_file: Path | None = Field(
        default=None,
        description="with which keys; with `pods` the agent keeps the file up to date: the gateway needs no token of"
        " the cluster",
    )
    launcher_subject: str = Field(
        default="system:serviceaccount:gdi:snakemake", max_length=300, description="the subject of these tokens"
    )
    agent_folder: Path | None = Field(default=None, description="where the agent keeps workflows' files")
    agent_gateway_url: HttpUrl | None = Field(
        default=None, description="where the agent finds this gateway; loopback and `PORT` where nothing is said"
    )
    agent_max_runs: int = Field(default=20, ge=1, le=10_000, description="at once")
    run_check_seconds: float = Field(
        default=5, ge=0, le=60, description="how long the broker's word that a run is open is believed"
    )
    broker_wait_seconds: float = Field(default=20, ge=0, le=300, description="for a broker that restarts")
    shutdown_seconds: int = Field(default=20, ge=1, le=600, description="for requests under way, after SIGTERM")
    archive_token_file: Path | None = Field(
        default=None,
        description="an access token of the node's own account at the archive, read anew each time: for the list of"
        " persons that the node makes by itself (`node-gateway epoch persons --dataset`)",
    )
    door_secret_file: Path | None = Field(
        default=None,
        description="a secret of 32 letters or more, for an nginx before the bytes (`node-gateway nginx-config`)",
    )
    slow_reader_seconds: float = Field(
        default=300, ge=1, le=86400, description="for so long a TES may take nothing of a download before it is cut off"
    )
    max_streams: int = Field(default=64, ge=1, le=10_000, description="downloads at once")

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
