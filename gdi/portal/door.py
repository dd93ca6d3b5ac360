"""All parts of the portal's server, made once from its settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import httpx

from gdi.kit.migrations import MigrationResult
from gdi.kit.rate_limit import Rate, RateLimit
from gdi.kit.secret_files import read_secret_text
from gdi.portal.airflow import AirflowClient
from gdi.portal.broker import BrokerForUsers
from gdi.portal.catalogue import Catalogue
from gdi.portal.consents import Consents
from gdi.portal.db.store import PortalDatabase
from gdi.portal.nodes import NodeLooks
from gdi.portal.pages.sign_in import PortalSignIn
from gdi.portal.results import RunFiles
from gdi.portal.runs import UserRuns
from gdi.portal.settings import Settings
from gdi.portal.teams import DagNames
from gdi.portal.watch import Watch


@dataclass
class Door:
    """`close` ends what works in the background first."""

    settings: Settings
    store: PortalDatabase
    broker: BrokerForUsers
    airflow: AirflowClient
    catalogue: Catalogue
    consents: Consents
    nodes: NodeLooks
    runs: UserRuns
    files: RunFiles
    watch: Watch
    limits: UserLimits
    sign_in: PortalSignIn | None = None  # of people at the pages; None: there are no pages

    async def close(self) -> None:
        await self.watch.stop()
        for part in (self.broker, self.airflow, self.nodes):
            await part.aclose()
        await self.store.close()


class UserLimits:
    """How much one user may ask for; each replica counts for itself."""

    def __init__(self, settings: Settings) -> None:
        self._limit = RateLimit()
        self._requests = _rate(settings.requests_per_minute)
        self._starts = _rate(settings.starts_per_minute)

    def request(self, sub: str) -> None:
        """ProblemError 429."""
        self._limit.take("requests of this user", sub, self._requests)

    def start(self, sub: str) -> None:
        self._limit.take("starts of this user", sub, self._starts)


def _rate(per_minute: float) -> Rate:
    return Rate(per_minute, max(1.0, per_minute / 2))


async def open_door(
    s: Settings,
    *,
    broker: httpx.AsyncBaseTransport | None = None,
    airflow: httpx.AsyncBaseTransport | None = None,
    gateways: httpx.AsyncBaseTransport | None = None,
    store: PortalDatabase | None = None,
    provider: httpx.AsyncClient | None = None,
) -> Door:
    """The transports, and a database with its schema, are for tests. SchemaError for a database that this version
    cannot serve; DatabaseAwayError.
    """
    if store is None:
        store, _ = await migrated_store(s.database_url, s.database_password_file)
    password = s.airflow_password_file
    airflow_client = AirflowClient(
        s.airflow_url,
        s.airflow_user,
        lambda: read_secret_text(password, "GDI_PORTAL_AIRFLOW_PASSWORD_FILE"),
        transport=airflow,
    )
    broker_client = BrokerForUsers(s.broker_url, transport=broker)
    catalogue = Catalogue(s.workflows)
    consents = Consents(broker_client, catalogue)
    return Door(
        settings=s,
        store=store,
        broker=broker_client,
        airflow=airflow_client,
        catalogue=catalogue,
        consents=consents,
        nodes=NodeLooks(transport=gateways),
        runs=UserRuns(store, broker_client, airflow_client, catalogue, consents, DagNames(s.teams)),
        files=RunFiles(airflow_client, s.downloads_per_user),
        watch=Watch(store, airflow_client, s.poll_seconds, s.standings_per_second),
        limits=UserLimits(s),
        sign_in=PortalSignIn.of(s, store, provider=provider),
    )


async def migrated_store(url: str, password_file: Path | None) -> tuple[PortalDatabase, MigrationResult]:
    """The database with its schema made or brought up to date, and from which revision to which it went."""
    password = read_secret_text(password_file, "GDI_PORTAL_DATABASE_PASSWORD_FILE") if password_file else None
    store = PortalDatabase.open(url, password)
    try:
        return store, await store.create()
    except BaseException:
        await store.close()
        raise
