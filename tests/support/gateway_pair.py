"""Two gateway processes of one node on one PostgreSQL database, as behind a load balancer."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from gdi.kit.secret_files import write_private
from tests.support.gateway_world import World, wait
from tests.support.postgres_kit import Postgres
from tests.support.processes import die_with_parent, free_port


class Pair(World):
    """A world whose run tokens are for the public URL of both; `ports[i]` and `sockets[i]` are each one's own."""

    def __init__(self, folder: Path, postgres: Postgres) -> None:
        self.postgres, self.database = postgres, postgres.database("gateway")
        self.password = write_private(folder / "database-password", postgres.password)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ports: list[int] = []
        self.sockets = [folder / "in-0.sock", folder / "in-1.sock"]
        super().__init__(folder)

    def environment(self) -> dict[str, str]:
        url = f"postgresql+asyncpg://gdi@127.0.0.1:{self.postgres.port}/{self.database}"
        own = {"NODE_GATEWAY_DATABASE_URL": url, "NODE_GATEWAY_DATABASE_PASSWORD_FILE": str(self.password)}
        return {**super().environment(), **own}

    def start(self) -> None:
        """Both in the same moment, on a database that is empty at first."""
        self.ports = [self.port, free_port()]
        self.processes = [self._start(i) for i in (0, 1)]
        for i in (0, 1):
            wait(lambda i=i: self._ready(i), 120, "the gateway's start")  # type: ignore[misc]
        self.process, self.socket = self.processes[0], self.sockets[0]

    def _start(self, i: int) -> subprocess.Popen[bytes]:
        place = {"NODE_GATEWAY_PORT": str(self.ports[i]), "NODE_GATEWAY_INTERNAL_SOCKET": str(self.sockets[i])}
        environment = {**self.environment(), **place, "PYTHONPATH": str(Path(__file__).parents[2])}
        with (self.folder / f"gateway-{i}.log").open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "node_gateway.main"],
                env=environment,
                cwd=self.folder,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )

    def _ready(self, i: int) -> bool:
        assert self.processes[i].poll() is None, (self.folder / f"gateway-{i}.log").read_text()[-3000:]
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.ports[i]}/livez", timeout=2, trust_env=False)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and self.sockets[i].exists()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "node_gateway.main", *arguments],
            env={**self.environment(), "PYTHONPATH": str(Path(__file__).parents[2])},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def public(self, i: int, method: str, path: str, token: str, **request: Any) -> httpx.Response:
        url = f"http://127.0.0.1:{self.ports[i]}{path}"
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.request(method, url, headers=headers, timeout=40, trust_env=False, **request)

    def inside_of(self, i: int) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self.sockets[i]))
        return httpx.Client(transport=transport, base_url="http://gateway", timeout=40, trust_env=False)

    def query(self, sql: str, *arguments: Any) -> list[Any]:
        return self.postgres.query(self.database, sql, *arguments)

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(30)
        self.process = None
        super().close()


def at_once(call: Callable[[int], Any], times: int) -> list[Any]:
    """`call(i)` for each i below `times`, released in one moment."""
    gate = threading.Barrier(times)

    def one(i: int) -> Any:
        gate.wait(20)
        return call(i)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))
