"""The broker, wired: every part made once, from the settings, in the order of what needs what."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from gdi.kit.bounded_read import BoundedAsyncClient
from gdi.kit.jose import SigningKey
from gdi.kit.migrations import MigrationResult
from gdi.kit.retry import acall_again, every
from gdi.kit.secret_files import read_secret_text
from gdi.kit.settings import SettingsError
from gdi.kit.tls import authorities
from gdi.kit.used_ids import UsedIds
from gdi.oauth.client import OAuthClient
from gdi.oauth.connection import ProviderConnection
from gdi.oauth.session import shared_client
from gdi.result_store.location import opened_by
from gdi.visas.visas import Visas
from token_broker.audit import Audit
from token_broker.authentication.callers import Authentication
from token_broker.background import Background
from token_broker.beacons import Beacons
from token_broker.catalogues.catalogues import DataCatalogues
from token_broker.committees.stops import Stops
from token_broker.committees.uses import Uses
from token_broker.db.store import BrokerDatabase
from token_broker.db.store import used_ids as used_ids_table
from token_broker.enrolment import EnrolmentFile
from token_broker.events.events import Events
from token_broker.grants.grants import Grants
from token_broker.grants.schedules import Schedules
from token_broker.grants.tickets import Tickets
from token_broker.health import Health
from token_broker.limits import Limits
from token_broker.metrics import Metrics
from token_broker.notices.choices import NoticeChoices
from token_broker.notices.outbox import Outbox
from token_broker.orders.nodes import KnownNodes
from token_broker.orders.orders import Orders
from token_broker.orders.preflights import Preflights
from token_broker.orders.release_store import ReleaseStore
from token_broker.orders.rounds import Rounds
from token_broker.orders.work import WorkBoard
from token_broker.orders.workflows import WorkflowFiles
from token_broker.runs.access import UserAccess
from token_broker.runs.admission import Admission
from token_broker.runs.runs import Runs
from token_broker.runs.tokens import RunTokens
from token_broker.runs.workloads import Workloads
from token_broker.settings import Settings
from token_broker.tokens.token_refresher import TokenRefresher
from token_broker.tokens.vault import SIGNING_KEY, CasConflict, Vault, VaultUnavailable
from token_broker.tokens.vault_login import auth_of

log = logging.getLogger(__name__)
START_WAIT = 60  # seconds for Vault to answer at start
KEY_TRIES = 20


@dataclass
class Broker:
    """All parts. `close` brings refreshes under way to their end first."""

    settings: Settings
    http: httpx.AsyncClient
    provider_http: httpx.AsyncClient
    enrolment: EnrolmentFile
    store: BrokerDatabase
    vault: Vault
    key: SigningKey
    oidc: OAuthClient
    refresher: TokenRefresher
    visas: Visas
    access: UserAccess
    audit: Audit
    grants: Grants
    tickets: Tickets
    schedules: Schedules
    runs: Runs
    workloads: Workloads
    tokens: RunTokens
    events: Events
    callers: Authentication
    background: Background
    metrics: Metrics
    used_ids: UsedIds
    limits: Limits
    health: Health
    orders: Orders
    board: WorkBoard
    rounds: Rounds
    nodes: KnownNodes
    workflows: WorkflowFiles
    release_store: ReleaseStore
    preflights: Preflights
    beacons: Beacons
    catalogues: DataCatalogues
    stops: Stops
    uses: Uses
    notice_choices: NoticeChoices

    async def close(self) -> None:
        await self.board.stop()
        await self.background.stop()
        await self.refresher.drain()
        await self.callers.aclose()
        await self.http.aclose()
        await self.beacons.aclose()
        await self.catalogues.aclose()
        await self.provider_http.aclose()
        await self.store.close()


async def open_broker(s: Settings) -> Broker:
    """Starts everything. SettingsError where the configuration or the Vault mount is not fit; VaultUnavailable where
    Vault stays away.
    """
    enrolment = EnrolmentFile(s.enrolment_file)
    authentication = s.client_authentication()
    vault = Vault(s.vault_addr, s.vault_mount, auth_of(s), ca_file=s.vault_ca_file, namespace=s.vault_namespace)
    key = await _at_start(vault)
    store = await open_store(s.database_url, s.database_password_file)
    http = BoundedAsyncClient(
        timeout=s.provider_timeout, limits=httpx.Limits(max_connections=50), trust_env=False, verify=authorities()
    )
    metrics = Metrics()
    provider_http = shared_client(s.provider_timeout)
    oidc = OAuthClient(
        ProviderConnection(
            provider_http,
            s.oidc_issuer,
            s.client_id,
            authentication,
            timeout=s.provider_timeout,
            access_lifetime=s.access_token_lifetime,
        ),
        "resource" if s.narrowing == "resource" else "audience",
    )
    audit, used_ids = Audit(store), UsedIds(store, used_ids_table)
    metrics.enrolment_problem.set_function(lambda: float(bool(enrolment.problem)))
    health = Health(store, vault, enrolment)
    grants = Grants(store, oidc, audit, s.max_grant_days)
    stops = Stops(store, enrolment, audit)
    grants.check_run = stops.check
    refresher = TokenRefresher(
        vault,
        oidc,
        lease=max(s.lease_seconds, s.provider_timeout + 3),
        default_lifetime=s.refresh_token_lifetime,
        on_refresh=metrics.counting_refresh(grants.on_refresh),
        on_dead=metrics.counting_dead(grants.on_dead),
    )
    grants.refresher = refresher
    visas = Visas(http, lambda: enrolment.current.visa_issuers, s.visa_max_age, s.visa_leeway)
    tickets = Tickets(store, grants, audit, s.ticket_lifetime)
    admission = Admission(refresher, oidc, visas, enrolment, audit, stops, narrows=s.narrowing != "accepted-broad")
    runs = Runs(store, grants, tickets, admission, enrolment, audit)
    schedules = Schedules(store, tickets, audit)
    mailer = s.mailer()
    choices = NoticeChoices(store, vault, oidc, audit, mail=mailer is not None, private=s.private_webhooks)
    outbox = Outbox(store, choices, mailer, s.portal_url, private=s.private_webhooks)
    stops.on_stop = runs.end_late
    runs.on_refused = schedules.run_refused
    runs.same_version = schedules.same_version
    runs.on_closed = schedules.run_closed
    workloads = Workloads(store, runs, audit)
    events = Events(store, runs, workloads, s.max_events_per_run, s.max_event_bytes, s.max_event_bytes_per_run)
    board = WorkBoard(store)
    orders = Orders(store, key, s.public_url, runs, grants, admission, events, audit, board.news)
    rounds = Rounds(store, runs, events)
    nodes, workflows = KnownNodes(store, enrolment), WorkflowFiles(store)
    releases = ReleaseStore(opened_by(s), s.max_release_bytes)
    preflights = Preflights(store, key, s.public_url, oidc, visas, enrolment, workflows, nodes, audit, board.news)
    catalogues = DataCatalogues(enrolment)
    return Broker(
        settings=s,
        http=http,
        provider_http=provider_http,
        enrolment=enrolment,
        store=store,
        vault=vault,
        key=key,
        oidc=oidc,
        refresher=refresher,
        visas=visas,
        access=UserAccess(oidc, visas, enrolment, stops, catalogues, nodes.statuses),
        audit=audit,
        grants=grants,
        tickets=tickets,
        schedules=schedules,
        runs=runs,
        workloads=workloads,
        tokens=RunTokens(s, key, runs, workloads, grants, refresher, audit),
        events=events,
        callers=Authentication(http, enrolment, oidc, s.public_url, used_ids),
        background=Background(
            grants,
            refresher,
            tickets,
            schedules,
            used_ids,
            health,
            orders,
            rounds,
            preflights,
            releases,
            partial(_measure, nodes, metrics),
            outbox,
            catalogues,
        ),
        metrics=metrics,
        used_ids=used_ids,
        limits=Limits(s),
        health=health,
        orders=orders,
        board=board,
        rounds=rounds,
        nodes=nodes,
        workflows=workflows,
        release_store=releases,
        preflights=preflights,
        beacons=Beacons(enrolment),
        catalogues=catalogues,
        stops=stops,
        uses=Uses(store),
        notice_choices=choices,
    )


async def open_store(url: str, password_file: Path | None) -> BrokerDatabase:
    """The database with its schema made or brought up to date. SettingsError for a password file that cannot be
    used; SchemaError for a database that this version cannot serve.
    """
    store, _ = await migrated_store(url, password_file)
    return store


async def migrated_store(url: str, password_file: Path | None) -> tuple[BrokerDatabase, MigrationResult]:
    """As `open_store`, and from which revision to which the database went."""
    password = read_secret_text(password_file, "TOKEN_BROKER_DATABASE_PASSWORD_FILE") if password_file else None
    store = BrokerDatabase.open(url, password)
    try:
        return store, await store.create()
    except BaseException:
        await store.close()
        raise


async def _measure(known: KnownNodes, metrics: Metrics) -> None:
    """The nodes' figures. Of a node that the coordinator starts pods at nothing is heard."""
    found = [status for status in await known.all() if status.placement == "node"]
    metrics.nodes_now((status.node, status.seen_at, status.orders) for status in found)


async def _at_start(vault: Vault) -> SigningKey:
    """Checks the mount and loads the signing key, waiting for Vault within bounds: it may be unsealed a little later
    than the broker starts.
    """

    async def ready() -> SigningKey:
        await vault.check_mount()
        return await signing_key(vault)

    return await acall_again(
        ready,
        every(1, total=START_WAIT),
        again=lambda failure: isinstance(failure.error, VaultUnavailable),
        note=lambda failure: log.warning("waiting for Vault: %s", failure.error),
        gave_up=lambda failure: SettingsError(f"{failure.error} (waited {START_WAIT} s)"),
    )


async def signing_key(vault: Vault) -> SigningKey:
    """The broker's ES256 key: made once, by whichever replica is first (`cas` lets one win), kept in Vault.
    VaultUnavailable where Vault says in turn that there is none and that there is one.
    """
    for _ in range(KEY_TRIES):
        record = await vault.read(SIGNING_KEY)
        if record.data is not None:
            return SigningKey.from_pem(str(record.data["pem"]).encode())
        try:
            await vault.write(SIGNING_KEY, {"pem": SigningKey.generate().pem().decode()}, cas=record.version)
        except CasConflict:
            continue
    raise VaultUnavailable(f"Vault contradicts itself about {SIGNING_KEY}. Check what stands before it.")
