"""The portal's settings: environment variables `GDI_PORTAL_*`, read once, checked at start. Secrets are named by file,
never given.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from gdi.kit.secret_files import read_secret_text
from gdi.kit.settings import EnvironmentSettings, SettingsError
from gdi.kit.web_url import secure_url


class DatabaseSettings(EnvironmentSettings):
    """Where the database is: all that `gdi-portal migrate` has to know."""

    model_config = SettingsConfigDict(env_prefix="GDI_PORTAL_")
    heading: ClassVar[str] = "The portal's settings are wrong:"

    database_url: str = Field(description="postgresql+asyncpg://user@host/name or sqlite+aiosqlite:///path", repr=False)
    database_password_file: Path | None = None


class Settings(DatabaseSettings):
    """One field for each `GDI_PORTAL_<NAME>`."""

    host: str = "127.0.0.1"
    port: int = Field(default=8081, ge=0, le=65535)
    public_url: str = Field(description="under which users and portals reach this server")
    broker_url: str
    airflow_url: str = Field(description="Airflow's api-server")
    airflow_public_url: str | None = Field(default=None, description="where people open Airflow; none: no links to it")
    airflow_user: str = Field(default="portal", description="an account that may start, see and stop runs of workflows")
    airflow_password_file: Path
    workflows: Path = Field(description="the catalogue: the folder that Airflow has, or a Git checkout")
    teams: Path | None = Field(default=None, description="the file GDI_TEAMS, where Airflow has a DAG for each team")
    oidc_issuer: str | None = Field(default=None, description="LS AAI, where people sign in")
    oidc_client_id: str | None = Field(
        default=None, description="the pages' client there, which the broker has enrolled; none: no pages"
    )
    oidc_client_secret_file: Path | None = None
    oidc_client_key_file: Path | None = None
    device_client_id: str | None = Field(
        default=None, description="a public client there, which the broker has enrolled: terminals sign in with it"
    )
    session_seconds: int = Field(default=8 * 3600, ge=60, le=30 * 86400, description="of people at the pages")
    cors_origins: list[str] = Field(
        default_factory=list, max_length=100, description='origins whose pages may call the API, as JSON: ["https://…"]'
    )
    operators_contact: str = Field(
        default="", max_length=200, description="a mail address or URL, shown in service-info"
    )
    poll_seconds: float = Field(default=2, ge=0.2, le=60, description="how often Airflow is asked for runs' states")
    standings_per_second: float = Field(
        default=10, gt=0, le=1000, description="of single runs, asked of Airflow at most"
    )
    requests_per_minute: float = Field(default=600, ge=1, description="of one user; half of them may come at once")
    starts_per_minute: float = Field(default=60, ge=1, description="of one user")
    downloads_per_user: int = Field(default=4, ge=1, le=20, description="of results, at once; all users together 20")
    drain_seconds: float = Field(default=0, ge=0, le=120)

    @field_validator("public_url", "broker_url", "airflow_url")
    @classmethod
    def _secure_url(cls, value: str) -> str:
        return secure_url(value)

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: list[str]) -> list[str]:
        for origin in value:
            parts = urlsplit(origin)
            if origin != f"{parts.scheme}://{parts.netloc}" or parts.scheme not in ("http", "https"):
                raise ValueError(f"{origin!r} is no origin: write https://host, without a path (* is not taken)")
        return value

    def check_files(self) -> None:
        read_secret_text(self.airflow_password_file, self.variable("airflow_password_file"))
        if not self.workflows.is_dir():
            raise SettingsError(f"{self.variable('workflows')}: {self.workflows} is no folder")
