"""A real PostgreSQL of Debian's in a folder of its own, and a world of brokers on it. Never touches the machine's own
cluster.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from gdi.contracts import broker_api as m
from gdi.kit.problem import ProblemError
from gdi.kit.secret_files import write_private
from gdi.local_federation.openbao import OpenBao
from tests.support.broker_kit import PORTS, World, wait_for
from tests.support.debian import program

_libc = ctypes.CDLL(None)


def end_with_parent() -> None:
    _libc.prctl(1, signal.SIGQUIT, 0, 0, 0)  # PostgreSQL's immediate shutdown


class Postgres:
    """One cluster on loopback with password login. As root it runs as the user `postgres`: the server refuses root."""

    def __init__(self, binaries: Path) -> None:
        self.binaries = binaries
        # Not under pytest's folder: that of root is closed to every other user.
        self.folder = Path(tempfile.mkdtemp(prefix="gdi-postgres-"))
        self.port = PORTS.take()
        self.password = secrets.token_urlsafe(24)
        self._as: dict[str, Any] = (
            {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        )
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        secret = write_private(self.folder / "password", self.password)
        if self._as:
            shutil.chown(self.folder, "postgres", "postgres")
            shutil.chown(secret, "postgres", "postgres")
        data = self.folder / "data"
        login = ["-U", "gdi", "-A", "scram-sha-256", f"--pwfile={secret}"]
        make = [str(self.binaries / "initdb"), "-D", str(data), *login, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        made = subprocess.run(
            make, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **self._as
        )
        assert made.returncode == 0, f"initdb failed: {made.stderr[-2000:]}"
        # fsync is off because this cluster dies with the test; crashes of the machine are not what it tests.
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "shared_buffers": "32MB",
        }
        serve = [
            str(self.binaries / "postgres"),
            "-D",
            str(data),
            *(a for k, v in settings.items() for a in ("-c", f"{k}={v}")),
        ]
        log = self.folder / "server.log"
        with log.open("wb") as out:
            self._server = subprocess.Popen(
                serve,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=end_with_parent,
                **self._as,
            )

        def up() -> bool:
            assert self._server is not None and self._server.poll() is None, (
                f"PostgreSQL ended:\n{log.read_text()[-2000:]}"
            )
            try:
                return bool(self.query("postgres", "SELECT 1"))
            except (OSError, asyncpg.PostgresError):
                return False

        wait_for("PostgreSQL answers", up, 60)

    def query(self, database: str, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        async def run() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(
                host="127.0.0.1", port=self.port, user="gdi", password=self.password, database=database, timeout=10
            )
            try:
                return list(await connection.fetch(sql, *arguments))
            finally:
                await connection.close()

        return asyncio.run(run())

    def database(self, of: str = "broker") -> str:
        """A new, empty database; its name."""
        name = f"{of}_{secrets.token_hex(6)}"
        self.query("postgres", f"CREATE DATABASE {name}")
        return name

    def dump(self, database: str) -> bytes:
        """Everything in it, as text; binary columns as PostgreSQL writes them, in hexadecimal."""
        command = [str(self.binaries / "pg_dump"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "gdi", database]
        environment = {"PATH": os.environ["PATH"], "PGPASSWORD": self.password}
        return subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=120
        ).stdout

    def stop(self) -> None:
        if self._server is not None and self._server.poll() is None:
            self._server.send_signal(signal.SIGINT)  # fast shutdown
            try:
                self._server.wait(120)
            except subprocess.TimeoutExpired:
                self._server.send_signal(signal.SIGQUIT)
                self._server.wait(120)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Debian's, installed first where it is missing and may be."""
    server = Postgres(program("postgresql").parent)
    try:
        server.start()
        yield server
    finally:
        server.stop()


class PostgresWorld(World):
    """A world whose brokers share one PostgreSQL database. `balanced`: each new client meets the next replica, as
    behind a load balancer.
    """

    def __init__(
        self,
        folder: Path,
        bao: OpenBao,
        postgres: Postgres,
        *,
        replicas: int = 2,
        balanced: bool = False,
        **options: Any,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.postgres, self.database = postgres, postgres.database()
        env = {
            "DATABASE_URL": f"postgresql+asyncpg://gdi@127.0.0.1:{postgres.port}/{self.database}",
            "DATABASE_PASSWORD_FILE": str(write_private(folder / "database-password", postgres.password)),
            **options.pop("broker_env", {}),
        }
        self._turn = itertools.cycle(range(replicas)) if balanced else None
        super().__init__(folder, bao, broker_env=env, **options)

    def url(self, replica: int | None = None) -> str:
        """Of one replica; with `balanced`, where the caller names none in particular (0), of the next."""
        if self._turn is not None and not replica and len(self.brokers) > 1:
            replica = next(self._turn)
        return f"http://127.0.0.1:{self.ports[replica or 0]}"

    def query(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        return self.postgres.query(self.database, sql, *arguments)


def at_both(call: Callable[[int], Any], times: int) -> list[Any]:
    """Calls `call(replica)` `times` times, released in one moment, alternating between the replicas; refusals come as
    their slugs.
    """
    gate = threading.Barrier(times)

    def one(i: int) -> Any:
        gate.wait(120)
        try:
            return call(i % 2)
        except ProblemError as error:
            return error.slug

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


def admit_at(world: World, replica: int, ticket: str | None, **changes: Any) -> m.Run:
    with world.airflow(replica) as airflow:
        return airflow.admit(world.admit_request(ticket, **changes))
