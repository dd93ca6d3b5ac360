"""`node-gateway`: one process, its listeners (public TCP; internal socket or port; monitoring) in one event loop, ended
gracefully by SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import logging
import os
import signal
import socket
import ssl
import stat
import sys
from pathlib import Path
from typing import Any

import uvicorn

from gdi.kit.database import DatabaseAwayError
from gdi.kit.graceful_shutdown import SideServer
from gdi.kit.jose import SigningKey
from gdi.kit.migrations import MigrationResult, SchemaError, when_reachable
from gdi.kit.settings import SettingsError
from gdi.kit.version import installed
from node_gateway import explanation
from node_gateway.app import internal_app, operations_app, public_app
from node_gateway.audit import Audit
from node_gateway.context import Gateway, open_database
from node_gateway.db.copy import copy_from
from node_gateway.epochs import command as epoch_command
from node_gateway.epochs.command import EpochRefused
from node_gateway.epochs.persons import PersonsError
from node_gateway.redaction import QueuedLog, RedactingFormatter
from node_gateway.settings import DatabaseSettings, Settings

log = logging.getLogger("node_gateway")


def _server(app: object, settings: Settings, *, internal: bool = False) -> SideServer:
    mutual: dict[str, Any] = {}
    if internal and settings.internal_tls_cert_file is not None:
        mutual = {
            "ssl_certfile": settings.internal_tls_cert_file,
            "ssl_keyfile": settings.internal_tls_key_file,
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
            "ssl_ca_certs": str(settings.internal_client_ca_file),
        }
    return SideServer(
        uvicorn.Config(
            app,  # type: ignore[arg-type]  # an ASGI application
            access_log=False,
            log_config=None,
            server_header=False,
            lifespan="off",
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=settings.shutdown_seconds,
            h11_max_incomplete_event_size=64 * 1024,
            **mutual,
        )
    )


def _tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listener


def _unix(path: Path) -> socket.socket:
    """A socket for the same user and group; one left by a killed process is replaced, one in use is not."""
    if path.exists() or path.is_symlink():
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SettingsError(f"INTERNAL_SOCKET: {path} exists and is no socket")
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) not in (errno.ECONNREFUSED, errno.ENOENT):
                raise SettingsError(f"INTERNAL_SOCKET: {path} is in use by another process")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        listener.bind(str(path))
    except OSError as error:
        raise SettingsError(f"INTERNAL_SOCKET: {path}: {error.strerror or error}") from None
    finally:
        os.umask(before)
    return listener


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; requests under way are given `shutdown_seconds`."""
    gateway = await Gateway.open(settings)
    try:
        public = _tcp(settings.host, settings.port)
        internal = (
            _unix(settings.internal_socket)
            if settings.internal_socket
            else _tcp(settings.internal_host, settings.internal_port or 0)
        )
        servers = [
            (_server(public_app(gateway), settings), public),
            (_server(internal_app(gateway), settings, internal=True), internal),
        ]
        if settings.operations_port is not None:
            watched = _tcp(settings.operations_host, settings.operations_port)
            servers.append((_server(operations_app(gateway), settings), watched))

        def stop() -> None:
            for server, _ in servers:
                server.should_exit = True

        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop)
        log.info(
            "node %s: public on %s:%d, internal on %s",
            settings.node_id,
            settings.host,
            settings.port,
            settings.internal_socket or settings.internal_port,
        )

        async def one(server: SideServer, listener: socket.socket) -> None:
            try:
                await server.serve(sockets=[listener])
            finally:
                stop()  # one listener without the other is no gateway

        await gateway.health.look()
        own = [asyncio.create_task(duty.for_ever()) for duty in (gateway.retention, gateway.health)]
        try:
            await asyncio.gather(*(one(server, listener) for server, listener in servers))
        finally:
            for task in own:
                task.cancel()
            await asyncio.wait(own)
    finally:
        await gateway.close()
        if settings.internal_socket:
            settings.internal_socket.unlink(missing_ok=True)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[QueuedLog(handler)], force=True)
    for noisy in ("httpx", "httpcore", "botocore", "boto3", "urllib3", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _init_key(path: Path) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(SigningKey.generate().pem())
    except FileExistsError:
        pass
    print(json.dumps(SigningKey.from_pem(path.read_bytes()).jwk()))


async def _verify_audit(settings: Settings) -> int:
    gateway = await Gateway.open(settings)
    try:
        return await gateway.audit.verify()
    finally:
        await gateway.close()


async def _migrate(settings: DatabaseSettings, source: Path | None) -> int:
    async def once() -> MigrationResult:
        database, outcome = await open_database(settings)
        await database.close()
        return outcome

    code = await when_reachable(once, "node-gateway", "NODE_GATEWAY_")
    if code or source is None:
        return code
    database, _ = await open_database(settings)
    try:
        counts = await copy_from(source, database)
        entries = await Audit(database).verify()
    finally:
        await database.close()
    rows = ", ".join(f"{name} {count}" for name, count in counts.items())
    print(f"node-gateway: copied from {source}: {rows}; {entries} audit entries follow each other", file=sys.stderr)
    return 0


def _check(policy: Path | None, datasets: Path | None) -> int:
    """Prints what holds and what is wrong; 1 where something is."""
    if policy is None:
        settings = Settings.load()
        policy, datasets = settings.policy_file, settings.datasets_folder
    sentences, wrong = explanation.check(policy, datasets or policy.parent / "datasets")
    for sentence in sentences:
        print(sentence)
    for mistake in wrong:
        print(f"Wrong: {mistake}", file=sys.stderr)
    return int(bool(wrong))


async def _epoch(settings: Settings, arguments: argparse.Namespace) -> str:
    database, _ = await open_database(settings)
    try:
        if arguments.verb == "list":
            return "\n".join(await epoch_command.lines(database))
        return await epoch_command.open_(
            database,
            SigningKey.from_pem(settings.key_file.read_bytes()),
            arguments.dataset,
            arguments.persons,
            arguments.min_difference,
            dry_run=arguments.dry_run,
        )
    finally:
        await database.close()


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="node-gateway",
        description="The one door of a node: tasks, data, workspace and releases, under the node's own policy.",
        epilog="Settings are environment variables NODE_GATEWAY_… (docs/contracts.md); secrets are in files that they"
        " name.",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {installed('gdi-node-gateway')[1]}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    serving = "answer requests until SIGTERM or SIGINT (the default)"
    commands.add_parser("serve", help=serving, description=serving)
    key = (
        "make the node's signing key (mode 0600, unless it exists) and print its public JWK for the broker's enrolment"
    )
    commands.add_parser("init-key", help=key, description=key).add_argument("file", type=Path, metavar="FILE")
    migrating = (
        "bring the database's schema to this version's, say from which revision to which it went, and end; serving does"
        " it too"
    )
    migrate = commands.add_parser("migrate", help=migrating, description=migrating)
    whence = "then copy a gateway's SQLite file into the database, which has to be empty; stop the gateways before"
    migrate.add_argument("--from", dest="source", type=Path, metavar="FILE", help=whence)
    epoch_command.add(commands)
    checking = "say in plain sentences what policy and descriptors of datasets allow, and name each wrong field"
    check = commands.add_parser("check", help=checking, description=checking)
    check.add_argument("policy", type=Path, nargs="?", metavar="POLICY", help="NODE_GATEWAY_POLICY_FILE if not given")
    check.add_argument("datasets", type=Path, nargs="?", metavar="FOLDER", help="`datasets` beside the policy")
    audit = "check the audit's chain of hashes"
    commands.add_parser("verify-audit", help=audit, description=audit)
    return top


def main() -> None:
    arguments = parser().parse_args()
    _log_to_stderr()
    try:
        match arguments.command:
            case "init-key":
                _init_key(arguments.file)
            case "migrate":
                sys.exit(asyncio.run(_migrate(DatabaseSettings.load(), arguments.source)))
            case "epoch":
                print(asyncio.run(_epoch(Settings.load(), arguments)))
            case "check":
                sys.exit(_check(arguments.policy, arguments.datasets))
            case "verify-audit":
                print(f"{asyncio.run(_verify_audit(Settings.load()))} entries, each follows the one before it")
            case _:
                asyncio.run(serve(Settings.load()))
    except SettingsError as error:
        sys.exit(f"node-gateway: the settings are wrong:\n{error}")
    except EpochRefused as refused:
        sys.exit(f"node-gateway: no epoch was opened:\n{refused}")
    except PersonsError as error:
        sys.exit(f"node-gateway: {error}")
    except (RuntimeError, ValueError, SchemaError, DatabaseAwayError) as error:
        sys.exit(f"node-gateway: {error}")


if __name__ == "__main__":
    main()
