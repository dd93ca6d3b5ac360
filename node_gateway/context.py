"""One gateway: its parts, made from the settings and closed again."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError

from gdi.broker_client.client import AsyncBrokerClient
from gdi.contracts.run_token import Scope
from gdi.kit.database import DatabaseAwayError
from gdi.kit.jose import RemoteKeys, SigningKey
from gdi.kit.problem import ProblemError
from gdi.kit.secret_files import read_secret, read_secret_text
from gdi.kit.settings import SettingsError
from gdi.kit.used_ids import UsedIds
from gdi.oauth.session import shared_client
from node_gateway.archive import SdaClient
from node_gateway.archive_v2 import SdaV2Client
from node_gateway.audit import Audit
from node_gateway.auth import Authenticator, Caller, Fences, OwnTokens
from node_gateway.broker import BrokerConnection, assertion
from node_gateway.data.service import Data
from node_gateway.db import store as db
from node_gateway.db.locks import DatabaseLocks
from node_gateway.db.store import GatewayDatabase
from node_gateway.drs import DrsClient
from node_gateway.epochs.contents import FileContents
from node_gateway.health import Health
from node_gateway.htsget import BlockSeal, HtsgetClient
from node_gateway.keys import PublicKey
from node_gateway.listings import Listings
from node_gateway.metrics import Metrics
from node_gateway.node_orders import NodeOrders
from node_gateway.object_files import ObjectFiles
from node_gateway.opened_database import open_database
from node_gateway.own_tasks.persons import PersonLists, own_token
from node_gateway.own_tasks.recounts import Recounts
from node_gateway.own_tasks.rounds import RoundTasks
from node_gateway.own_tasks.tasks import OwnTasks
from node_gateway.policy import PolicyError, PolicyFile
from node_gateway.release.service import Releases
from node_gateway.retention import Retention
from node_gateway.review.service import Reviews
from node_gateway.review.sign_in import ReviewSignIn
from node_gateway.settings import Settings, s3_credentials
from node_gateway.stops import NodeStops
from node_gateway.tasks.service import Tasks
from node_gateway.tasks.store import TaskStore
from node_gateway.tasks.tes_client import UpstreamTes
from node_gateway.upstream import client
from node_gateway.workloads.service import NodePods, PodIssuer
from node_gateway.workspace.bucket import THREADS, Bucket


@dataclass(repr=False)
class Gateway:
    settings: Settings
    policy: PolicyFile
    database: GatewayDatabase
    locks: DatabaseLocks
    audit: Audit
    metrics: Metrics
    auth: Authenticator
    broker: BrokerConnection
    workspace: Bucket
    archive: SdaClient
    htsget: HtsgetClient | None
    drs: DrsClient
    objects: ObjectFiles
    tasks: Tasks
    data: Data
    releases: Releases
    reviews: Reviews
    sign_in: ReviewSignIn | None
    retention: Retention
    listings: Listings
    keys: RemoteKeys
    health: Health
    workloads: NodePods
    recounts: Recounts
    rounds: RoundTasks
    person_lists: PersonLists
    stops: NodeStops
    _broker_http: AsyncBrokerClient
    _keys_http: httpx.AsyncClient
    _oidc_http: httpx.AsyncClient
    _threads: ThreadPoolExecutor

    @classmethod
    async def open(cls, settings: Settings, *, migrated: bool = False) -> Gateway:
        """`migrated`: the database is at its newest revision. Reads every file first: SettingsError naming what is
        missing or wrong. RuntimeError where the database is in use, SchemaError where this version cannot serve it,
        DatabaseAwayError.
        """
        try:
            key = SigningKey.from_pem(read_secret(settings.key_file, "KEY_FILE"))
        except ValueError as error:
            raise SettingsError(f"KEY_FILE: {settings.key_file}: {error}") from None
        try:
            policy = PolicyFile(settings.policy_file, settings.datasets_folder)
        except PolicyError as error:
            raise SettingsError(f"POLICY_FILE: {error}") from None
        password = read_secret_text(settings.tes_password_file, "TES_PASSWORD_FILE")
        credentials = s3_credentials(settings.s3_credentials_file)
        tes_key = PublicKey.load(settings.tes_public_key_file)
        if migrated:
            database = GatewayDatabase.open(settings.database_url, settings.database_password())
        else:
            database, _ = await open_database(settings)
        locks = DatabaseLocks.of(settings.database_url, settings.database_password())

        metrics, audit = Metrics(), Audit(database)
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")
        workspace, area = (
            Bucket(
                name, endpoint=settings.s3_endpoint, region=settings.s3_region, credentials=credentials, pool=threads
            )
            for name in (settings.workspace_bucket, settings.release_bucket)
        )
        broker_http = AsyncBrokerClient(settings.broker_url, lambda: assertion(key, settings.node_id, settings.issuer))
        broker = BrokerConnection(
            broker_http, settings.node_id, fresh_for=settings.run_check_seconds, wait=settings.broker_wait_seconds
        )
        keys_http = client(settings.broker_url, read_timeout=10)
        keys = RemoteKeys(f"{settings.broker_url}/.well-known/jwks.json", keys_http)
        fences = Fences(database)
        orders = NodeOrders(database)
        stops = NodeStops(database, audit)
        auth = Authenticator(
            keys,
            broker,
            fences,
            audit,
            node=settings.node_id,
            audience=settings.public_url,
            issuer=settings.issuer,
            own=OwnTokens(key, orders, policy),
            stops=stops,
        )
        workloads = NodePods(
            settings.node_id, settings.public_url, key, pod_issuer(settings), orders, policy, broker_http, audit
        )
        store = TaskStore(database)
        sda = SdaV2Client if settings.sda_api == "v2" else SdaClient
        archive = sda(settings.sda_url, prefix=settings.sda_prefix, key=tes_key, others=settings.sda_other_urls)
        htsget = _htsget(settings, tes_key, key)
        tes = UpstreamTes(settings.tes_url, settings.tes_user, password)
        tasks = Tasks(settings.node_id, policy, store, tes, broker, fences, audit, workspace, tes_key, metrics, locks)
        tasks.approved = orders.approved
        tasks.slices = htsget is not None
        listings = Listings(archive)
        drs = DrsClient(settings.drs_servers)
        tasks.objects = objects = ObjectFiles(drs, listings, broker, audit)
        data = Data(
            store,
            broker,
            fences,
            archive,
            listings,
            audit,
            tes_key,
            metrics,
            asyncio.Semaphore(settings.max_streams),
            policy,
            lambda: own_token(settings.archive_token_file),
            FileContents(database),
            workspace,
        )
        own_tasks = OwnTasks(policy, store, tes, broker, audit, workspace, tes_key)
        person_lists = PersonLists(
            settings.node_id, database, own_tasks, policy, archive, key, settings.archive_token_file
        )
        reviews = Reviews(database, policy, area, audit)
        recounts = Recounts(own_tasks, policy, broker, listings, key, reviews)
        releases = Releases(
            settings.node_id,
            settings.public_url,
            database,
            policy,
            key,
            workspace,
            area,
            audit,
            metrics,
            reviews,
            locks,
        )
        oidc_http = shared_client(connections=20)
        sign_in = ReviewSignIn.of(settings, key, oidc_http, UsedIds(database, db.used_ids))
        retention = Retention(database, locks, policy, workspace, broker_http, audit, reviews)
        metrics.policy_problem.set_function(lambda: float(bool(policy.problem or policy.datasets.problem)))
        health = Health(
            database,
            keys,
            {"tes": tes, "archive": archive, "storage": workspace},
            policy,
            audit,
            broker.enrolment,
        )
        known = (settings, policy, database, locks, audit, metrics, auth, broker, workspace, archive, htsget, drs)
        doing = (objects, tasks, data, releases, reviews, sign_in, retention, listings)
        own = (workloads, recounts, RoundTasks(own_tasks, policy, locks), person_lists, stops)
        return cls(*known, *doing, keys, health, *own, broker_http, keys_http, oidc_http, threads)

    async def close(self) -> None:
        with contextlib.suppress(DatabaseAwayError, SQLAlchemyError):
            await self.audit.tell_counts()
        for part in (
            self.archive,
            self.htsget,
            self.drs,
            self.tasks.tes,
            self._broker_http,
            self._keys_http,
            self._oidc_http,
        ):
            if part is not None:
                await part.aclose()
        self._threads.shutdown(wait=True, cancel_futures=True)
        await self.locks.close()
        await self.database.close()

    def own_run(self, caller: Caller, run: str) -> None:
        if run != caller.run:
            raise ProblemError(403, "other-run", "The run token is for another run.", action="Use the run's own token.")

    async def run_caller(self, request: Request, scope: Scope, run: str) -> Caller:
        """Who asks, with a token of `scope` and of this very run; a token of another run is refused with 403, and the
        audit has it.
        """
        caller = await self.auth.caller(request, scope)
        try:
            self.own_run(caller, run)
        except ProblemError as error:
            await self.auth.refuse(f"{request.method} {request.url.path}", error, caller)
            raise
        return caller


def _htsget(settings: Settings, tes_key: PublicKey, key: SigningKey) -> HtsgetClient | None:
    """The archive's htsget server, where there is one."""
    if settings.htsget_url is None:
        return None
    return HtsgetClient(
        settings.htsget_url,
        block_urls=settings.htsget_block_urls,
        key=tes_key,
        encryption=settings.htsget_encryption,
        seal=BlockSeal(key),
    )


def pod_issuer(settings: Settings) -> PodIssuer | None:
    """Who signs the identity tokens of this node's own pods; None where the node starts none."""
    if settings.launcher_issuer is None or settings.launcher_jwks_file is None:
        return None
    return PodIssuer(settings.launcher_issuer, settings.launcher_jwks_file, settings.launcher_subject)
