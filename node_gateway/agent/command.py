"""`node-gateway agent`: one process beside the gateway, with its settings. It listens nowhere and calls out only."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import httpx

from gdi.broker_client.node_agent import NodeAgentClient
from gdi.kit.jose import RemoteKeys, SigningKey
from gdi.kit.models import load_model
from gdi.kit.problem import ProblemError
from gdi.kit.retry import RetryPolicy, acall_again
from gdi.kit.secret_files import read_secret
from gdi.kit.settings import SettingsError
from gdi.kit.used_ids import UsedIds
from gdi.pods.config import PodConfig
from gdi.visas.visas import Visas
from node_gateway.agent.agent import NodeAgent
from node_gateway.agent.cluster_api import ClusterAccount, ClusterApi
from node_gateway.agent.duties import Duties, is_away
from node_gateway.agent.judge import Judge, short
from node_gateway.agent.launcher import AgentLauncher, NodeLauncher
from node_gateway.agent.one_agent import one_agent
from node_gateway.agent.own_gateway import OwnGateway
from node_gateway.agent.pod_launcher import PodLauncher
from node_gateway.agent.round_duty import RoundDuty
from node_gateway.audit import Audit
from node_gateway.broker import assertion
from node_gateway.db import store as db
from node_gateway.db.store import GatewayDatabase
from node_gateway.node_orders import NodeOrders
from node_gateway.node_rounds import RoundHistory
from node_gateway.policy import PolicyError, PolicyFile
from node_gateway.settings import Settings
from node_gateway.stops import NodeStops
from node_gateway.upstream import client

log = logging.getLogger(__name__)
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
GATEWAY_WAIT = 120.0  # seconds at the start; the gateway brings the database to its newest revision


async def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Pods go on; the next agent finds them."""
    if settings.agent_folder is None:
        raise SettingsError("AGENT_FOLDER must be set for the agent")
    launcher = launcher_of(settings, settings.agent_folder)
    key = SigningKey.from_pem(read_secret(settings.key_file, "KEY_FILE"))
    try:
        policy = PolicyFile(settings.policy_file, settings.datasets_folder)
    except PolicyError as error:
        raise SettingsError(f"POLICY_FILE: {error}") from None
    settings.agent_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = GatewayDatabase(GatewayDatabase.make_engine(settings.database_url, settings.database_password()))
    orders, audit, used = NodeOrders(database), Audit(database), UsedIds(database, db.used_ids)
    url = settings.agent_gateway_url or f"http://127.0.0.1:{settings.port}"
    gateway = OwnGateway(url, key, settings.node_id, settings.public_url)
    http = client(settings.broker_url, read_timeout=10)
    fetching = client("", read_timeout=10)
    broker = NodeAgentClient(settings.broker_url, lambda: assertion(key, settings.node_id, settings.issuer))
    judge = Judge(
        node=settings.node_id,
        folder=settings.agent_folder,
        issuer=settings.issuer,
        policy=policy,
        keys=RemoteKeys(f"{settings.broker_url}/.well-known/jwks.json", http),
        visas=Visas(fetching, lambda: policy.current().visa_issuers),
        orders=orders,
        stops=NodeStops(database, audit),
        used=used,
        broker=broker,
    )
    duties = Duties(
        node=settings.node_id,
        audience=settings.public_url,
        orders=orders,
        launcher=launcher,
        gateway=gateway,
        broker=broker,
        restore=judge.restore,
        max_runs=settings.agent_max_runs,
    )
    agent = NodeAgent(
        node=settings.node_id,
        policy=policy,
        judge=judge,
        orders=orders,
        broker=broker,
        duties=duties,
        rounds=RoundDuty(duties, RoundHistory(database), judge.files),
        audit=audit,
    )
    try:
        await _kept_up(launcher)  # first: what a gateway that starts anew waits for
        await _gateway_up(gateway)
        password = settings.database_password()
        async with one_agent(settings.database_url, password, settings.agent_folder) as lost:
            log.info("agent of %s: asks %s for work", settings.node_id, settings.broker_url)
            await _until_stopped(agent, lost)
    finally:
        await agent.stop()
        for part in (gateway, launcher, broker, http, fetching):
            await part.aclose()
        await database.close()


def launcher_of(settings: Settings, folder: Path) -> AgentLauncher:
    """SettingsError naming what is missing or wrong."""
    if settings.launcher == "process":
        if settings.launcher_socket is None:
            raise SettingsError("LAUNCHER_SOCKET must be set: LAUNCHER is process")
        return NodeLauncher(settings.launcher_socket)
    if settings.launcher_pods_file is None:
        raise SettingsError("LAUNCHER_PODS_FILE must be set: LAUNCHER is pods")
    config = load_model(settings.launcher_pods_file, PodConfig, error=SettingsError, name="LAUNCHER_PODS_FILE")
    if settings.launcher_jwks_file is None:
        raise SettingsError("LAUNCHER_JWKS_FILE must be set: where the agent writes the cluster's keys for the gateway")
    if config.broker_url is None:
        raise SettingsError("LAUNCHER_PODS_FILE: broker_url must be this node's gateway, as its pods reach it")
    api = ClusterApi(ClusterAccount.of_pod(os.environ, SERVICE_ACCOUNT), config.namespace)
    return PodLauncher(api, config, folder, settings.node_id, settings.launcher_jwks_file)


async def _kept_up(launcher: AgentLauncher) -> None:
    """Before the first pod: the gateway is to know its keys."""
    try:
        policy = RetryPolicy(total=GATEWAY_WAIT)
        await acall_again(launcher.upkeep, policy, again=lambda failure: is_away(failure.error))
    except (ProblemError, httpx.HTTPError) as error:
        log.warning("the launcher is not ready; the agent begins without it: %s", short(error))


async def _gateway_up(gateway: OwnGateway) -> None:
    for _ in range(int(GATEWAY_WAIT * 2)):
        if await gateway.ready():
            return
        await asyncio.sleep(0.5)
    log.warning("the gateway is not ready; the agent begins without it")


async def _until_stopped(agent: NodeAgent, lost: asyncio.Task[None]) -> None:
    """DatabaseAwayError where the agent's lock was lost: another one may be at work."""
    working = asyncio.create_task(agent.run())
    lost.add_done_callback(lambda _: working.cancel())
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, working.cancel)
    try:
        await working
    except asyncio.CancelledError:
        log.info("the agent ends; its pods go on")
        if lost.done():
            lost.result()
