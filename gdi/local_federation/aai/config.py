"""The settings of the LS AAI and REMS stand-in: one YAML file, read once, every mistake named at start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from gdi.kit.models import FilePath, Strict, load_model, read_document
from gdi.kit.secret_files import read_secret_text
from gdi.kit.settings import SettingsError

MAX_BYTES = 64 * 1024 * 1024  # ten thousand users, a hundred thousand entitlements
Seconds = Annotated[int, Field(ge=1, le=10 * 365 * 86400)]
GrantName = Literal["authorization_code", "refresh_token", "device_code", "token_exchange"]
SCOPES = ("openid", "profile", "email", "offline_access", "ga4gh_passport_v1")
Variant = Literal["good", "expired", "bad-signature", "untrusted-jku", "untrusted-issuer", "not-a-jwt"]


class Lifetimes(Strict):
    """All in seconds. A visa lives as long as its entitlement, at most `visa`."""

    access: Seconds = 600
    refresh: Seconds = 3600
    code: Seconds = 60
    login: Seconds = 600
    device: Seconds = 600
    visa: Seconds = 365 * 86400


class Client(Strict):
    """A registered OAuth client. It authenticates with the secret of `secret_file`, or with a key of the JWK set in
    `jwks_file` (private_key_jwt). With neither it is public: PKCE alone proves it, and it may neither introspect nor
    exchange.
    """

    id: str = Field(pattern=r"^[A-Za-z0-9._:-]{1,100}$")
    secret_file: FilePath | None = None
    jwks_file: FilePath | None = None
    redirect_uris: list[str] = Field(default_factory=list, max_length=50)
    grants: list[GrantName] = Field(default=["authorization_code", "refresh_token"])
    scopes: list[str] = Field(default_factory=lambda: list(SCOPES), max_length=50)
    introspect: bool = False
    audiences: list[str] = Field(
        default_factory=lambda: ["*"], max_length=1000
    )  # what `audience` of an exchange may name
    secret: SecretStr | None = Field(default=None, exclude=True)  # filled from secret_file
    jwks: list[dict[str, Any]] = Field(default=[], exclude=True)  # filled from jwks_file

    @model_validator(mode="after")
    def _public(self) -> Client:
        if self.secret_file is not None and self.jwks_file is not None:
            raise ValueError(f"client {self.id} has a secret_file and a jwks_file: it authenticates in one way only")
        public = self.secret_file is None and self.jwks_file is None
        if public and (self.introspect or "token_exchange" in self.grants):
            raise ValueError(
                f"client {self.id} introspects or exchanges tokens, so it needs a secret_file or jwks_file"
            )
        return self

    @field_validator("redirect_uris")
    @classmethod
    def _no_fragment(cls, value: list[str]) -> list[str]:
        for uri in value:
            if "#" in uri or not uri.startswith(("http://", "https://")):
                raise ValueError(f"redirect URI {uri} must be absolute http(s) without a fragment")
        return value


class User(Strict):
    """Somebody who can sign in. `sub` is `NAME@lifescience-ri.eu` unless given."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    sub: str = Field(default="", max_length=255)
    password: SecretStr | None = None
    password_file: FilePath | None = None
    full_name: str = Field(default="", max_length=200)
    email: str = Field(default="", max_length=200)

    @model_validator(mode="after")
    def _defaults(self) -> User:
        self.sub = self.sub or f"{self.name}@lifescience-ri.eu"
        if (self.password is None) == (self.password_file is None):
            raise ValueError(f"user {self.name} needs either password or password_file")
        return self


class Entitlement(Strict):
    """Access to one dataset, as REMS grants it. `variant` makes visas that must be refused: a knob for tests.

    `user` is a sub or a user's name; `expires_in` in seconds (may be negative); the rest as in the GA4GH visa object.
    """

    user: str = Field(min_length=1, max_length=255)
    dataset: str = Field(min_length=1, max_length=255)
    variant: Variant = "good"
    expires_in: int | None = Field(default=None, ge=-(10 * 365 * 86400), le=10 * 365 * 86400)
    type: str = Field(default="ControlledAccessGrants", max_length=100)
    source: str = Field(default="", max_length=255)  # empty: REMS's public URL
    by: str | None = Field(default="dac", max_length=20)
    asserted: int | None = None
    conditions: list[list[dict[str, str]]] | None = Field(default=None, max_length=20)


class CatalogueItem(Strict):
    """A dataset for which people may apply in REMS."""

    dataset: str = Field(min_length=1, max_length=255)
    title: str = Field(default="", max_length=200)


class AaiConfig(Strict):
    """Relative paths are taken from the folder of the file. Keys and the state database are made where absent, mode
    0600.
    """

    model_config = ConfigDict(validate_default=True)
    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    public_url: str = ""  # empty: http://HOST:PORT as bound
    state_file: FilePath = Path("aai.sqlite")
    key_file: FilePath = Path("aai-key.pem")
    rems_key_file: FilePath = Path("rems-key.pem")
    rogue_key_file: FilePath = Path("rogue-key.pem")
    admin_key_file: FilePath
    rems_api_key_file: FilePath
    ready_file: FilePath | None = None  # `{"url"}` is written here once the server listens
    record_issued: FilePath | None = None  # for leak tests only: every token issued, one a line, in clear
    lifetimes: Lifetimes = Field(default_factory=Lifetimes)
    rotation: Literal["strict", "none"] = "strict"
    exchange_answer: Literal["rfc8693", "keycloak"] = (
        "rfc8693"  # keycloak: an access token and, beside it, `refresh_token`
    )
    narrows_by: frozenset[Literal["audience", "resource"]] = frozenset({"audience", "resource"})  # it knows no other
    tells_lifetimes: bool = True  # `expires_in` and `refresh_expires_in` of the token endpoint
    introspects_refresh_tokens: bool = True  # without, each is `{"active": false}` (RFC 7662 §2.2 lets it)
    device_interval: int = Field(default=5, ge=1, le=60)
    clients: list[Client] = Field(max_length=100)
    users: list[User] = Field(max_length=10_000)
    entitlements: list[Entitlement] = Field(default_factory=list, max_length=100_000)
    catalogue: list[CatalogueItem] = Field(default_factory=list, max_length=10_000)
    handlers: list[str] = Field(default_factory=list, max_length=100)  # who decides on applications
    admin_key: SecretStr = Field(default=SecretStr(""), exclude=True)
    rems_api_key: SecretStr = Field(default=SecretStr(""), exclude=True)

    @model_validator(mode="after")
    def _unique(self) -> AaiConfig:
        for what, names in (
            ("client", [c.id for c in self.clients]),
            ("user", [u.name for u in self.users]),
            ("sub", [u.sub for u in self.users]),
        ):
            twice = {n for n in names if names.count(n) > 1}
            if twice:
                raise ValueError(f"{what} {sorted(twice)[0]} is given twice")
        return self

    def client(self, client_id: str) -> Client | None:
        return next((c for c in self.clients if c.id == client_id), None)

    def user(self, name_or_sub: str) -> User | None:
        return next((u for u in self.users if name_or_sub in (u.name, u.sub)), None)

    def sub_of(self, name_or_sub: str) -> str:
        user = self.user(name_or_sub)
        return user.sub if user else name_or_sub


def _secret(path: Path, what: str) -> SecretStr:
    """A secret file's text. SettingsError where it is absent, open to others, empty or unreasonably short."""
    value = read_secret_text(path, what)
    if len(value) < 8:
        raise SettingsError(f"{what}: {path} holds fewer than 8 characters")
    return SecretStr(value)


def read_jwks(path: Path, what: str) -> list[dict[str, Any]]:
    """The public keys of a JWK set (RFC 7517 §5). SettingsError where there is none, or one with a private part."""
    found = read_document(path, error=SettingsError, name=what)
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list) or not keys or not all(isinstance(k, dict) and "d" not in k for k in keys):
        raise SettingsError(f"{what}: {path} must be a JWK set of public keys, one at least")
    return keys


def load(path: Path) -> AaiConfig:
    """Reads the YAML file and the secrets it names. SettingsError where anything is wrong."""
    config = load_model(path, AaiConfig, error=SettingsError, most=MAX_BYTES)
    config.admin_key = _secret(config.admin_key_file, "admin_key_file")
    config.rems_api_key = _secret(config.rems_api_key_file, "rems_api_key_file")
    for client in config.clients:
        if client.secret_file is not None:
            client.secret = _secret(client.secret_file, f"client {client.id}: secret_file")
        if client.jwks_file is not None:
            client.jwks = read_jwks(client.jwks_file, f"client {client.id}: jwks_file")
    for user in config.users:
        if user.password_file is not None:
            user.password = _secret(user.password_file, f"user {user.name}: password_file")
    return config
