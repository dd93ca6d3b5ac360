"""A real OpenBao server on loopback: raft storage (no dev mode), initialised, unsealed after each start, KV v2 with
`cas_required`, the broker's AppRole.

The launcher starts the process (`argv`, after `prepare`) and calls `settle` whenever it listens; tests use `running`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from gdi.kit.secret_files import write_private
from gdi.kit.tls import authorities

POLICY = """
path "{mount}/data/broker/*"     {{ capabilities = ["create", "read", "update", "delete"] }}
path "{mount}/data/grants/*"     {{ capabilities = ["create", "read", "update", "delete"] }}
path "{mount}/metadata/broker/*" {{ capabilities = ["create", "read", "update", "delete", "list"] }}
path "{mount}/metadata/grants/*" {{ capabilities = ["create", "read", "update", "delete", "list"] }}
"""
ROLE = "token-broker"


class OpenBaoError(RuntimeError):
    """OpenBao could not be made ready; says at which step and what it answered. Never carries a key or token."""


class KeyLostError(OpenBaoError):
    """Initialised, but the answer that held the unseal key was lost: only an empty start helps."""


@dataclass
class OpenBao:
    """One server under `folder`. Unseal key and root token lie in `operator.json` (0600): a real operator keeps them
    elsewhere.

    `mount`: the KV v2 engine of the broker. `token_ttl`: how long the broker's own token lives ("768h" is Vault's
    default of 32 days).
    """

    folder: Path
    port: int
    cluster_port: int
    mount: str = "gdi"
    token_ttl: str = "1h"  # noqa: S105

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def role_id_file(self) -> Path:
        return self.folder / "broker-role-id"

    @property
    def secret_id_file(self) -> Path:
        return self.folder / "broker-secret-id"

    @property
    def operator_file(self) -> Path:
        return self.folder / "operator.json"

    def argv(self) -> list[str]:
        return [
            str(Path(sys.executable).parent / "bao"),
            "server",
            f"-config={self.folder / 'server.json'}",
            "-log-level=warn",
        ]

    def prepare(self) -> None:
        """Writes the server's configuration; before each start."""
        data = self.folder / "raft"
        if data.exists() and not self.operator_file.exists():
            shutil.rmtree(data)  # initialised, but the answer with the key was lost: nothing can be in it yet
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        config = {
            "storage": {"raft": {"path": str(data), "node_id": "local"}},
            "listener": {
                "tcp": {
                    "address": f"127.0.0.1:{self.port}",
                    "cluster_address": f"127.0.0.1:{self.cluster_port}",
                    "tls_disable": True,
                }
            },
            "api_addr": self.url,
            "cluster_addr": f"http://127.0.0.1:{self.cluster_port}",
            "ui": False,
        }
        write_private(self.folder / "server.json", json.dumps(config))

    def listening(self) -> bool:
        """It answers, sealed or not."""
        try:
            httpx.get(self.url + "/v1/sys/seal-status", timeout=2, trust_env=False, verify=authorities())
        except httpx.HTTPError:
            return False
        return True

    def ready(self) -> bool:
        """Unsealed, active, and configured for the broker."""
        try:
            active = (
                httpx.get(self.url + "/v1/sys/health", timeout=2, trust_env=False, verify=authorities()).status_code
                == 200
            )
        except httpx.HTTPError:
            return False
        return active and self.secret_id_file.exists()

    def settle(self, timeout: float = 60) -> None:
        """Initialises at the first start, unseals at each, waits until active, configures once. OpenBaoError; safe to
        repeat.
        """
        deadline = time.monotonic() + timeout
        with httpx.Client(base_url=self.url, timeout=10, trust_env=False, verify=authorities()) as http:
            status = self._until(
                deadline, "answer", lambda: http.get("/v1/sys/seal-status"), lambda r: r.status_code == 200
            ).json()
            if status["initialized"] and not self.operator_file.exists():
                raise KeyLostError(
                    f"OpenBao at {self.url} is initialised, but its key never arrived. Start it again: it begins anew."
                )
            if not status["initialized"]:
                answer = http.put("/v1/sys/init", json={"secret_shares": 1, "secret_threshold": 1}, timeout=timeout)
                _check(answer, "initialisation")
                made = answer.json()
                write_private(
                    self.operator_file,
                    json.dumps({"unseal_key": made["keys_base64"][0], "root_token": made["root_token"]}),
                )
            operator: dict[str, str] = json.loads(self.operator_file.read_text())
            if not status["initialized"] or status["sealed"]:
                _check(http.put("/v1/sys/unseal", json={"key": operator["unseal_key"]}), "unsealing")
            self._until(deadline, "become active", lambda: http.get("/v1/sys/health"), lambda r: r.status_code == 200)
            if not self.secret_id_file.exists():
                self._configure(http, operator["root_token"], deadline)

    def _configure(self, http: httpx.Client, root: str, deadline: float) -> None:
        """KV v2, policy, AppRole. Each step may be repeated after an interruption."""
        http.headers["X-Vault-Token"] = root
        ok: Callable[[httpx.Response], bool] = lambda r: r.is_success or "already in use" in r.text  # noqa: E731
        kv = {"type": "kv", "options": {"version": "2"}}
        self._until(deadline, "enable the KV engine", lambda: http.post(f"/v1/sys/mounts/{self.mount}", json=kv), ok)
        self._until(
            deadline,
            "require check-and-set",
            lambda: http.post(f"/v1/{self.mount}/config", json={"cas_required": True}),
            ok,
        )
        self._until(deadline, "enable AppRole", lambda: http.post("/v1/sys/auth/approle", json={"type": "approle"}), ok)
        _check(
            http.put(f"/v1/sys/policies/acl/{ROLE}", json={"policy": POLICY.format(mount=self.mount)}),
            "writing the policy",
        )
        role = {
            "token_policies": [ROLE],
            "token_ttl": self.token_ttl,
            "token_max_ttl": "768h",
            "secret_id_ttl": 0,
            "token_no_default_policy": True,
        }
        _check(http.post(f"/v1/auth/approle/role/{ROLE}", json=role), "making the AppRole")
        role_id = http.get(f"/v1/auth/approle/role/{ROLE}/role-id")
        _check(role_id, "reading the role id")
        secret_id = http.post(f"/v1/auth/approle/role/{ROLE}/secret-id", json={})
        _check(secret_id, "making the secret id")
        write_private(self.role_id_file, role_id.json()["data"]["role_id"])
        write_private(self.secret_id_file, secret_id.json()["data"]["secret_id"])

    def _until(
        self, deadline: float, what: str, call: Callable[[], httpx.Response], good: Callable[[httpx.Response], bool]
    ) -> httpx.Response:
        last = "nothing"
        while time.monotonic() < deadline:
            try:
                answer = call()
                if good(answer):
                    return answer
                last = f"HTTP {answer.status_code}"
            except httpx.HTTPError as error:
                last = type(error).__name__
            time.sleep(0.1)
        raise OpenBaoError(f"OpenBao at {self.url} did not {what} in time (last: {last}). See its log.")

    def as_operator(self) -> httpx.Client:
        """An HTTP client with the root token, for tests and for an operator's own hands."""
        operator: dict[str, Any] = json.loads(self.operator_file.read_text())
        return httpx.Client(
            base_url=self.url,
            headers={"X-Vault-Token": operator["root_token"]},
            timeout=10,
            trust_env=False,
            verify=authorities(),
        )


def _check(answer: httpx.Response, step: str) -> None:
    if not answer.is_success:
        raise OpenBaoError(f"OpenBao refused {step} with HTTP {answer.status_code}.")


@contextmanager
def running(bao: OpenBao, *, timeout: float = 60) -> Iterator[subprocess.Popen[bytes]]:
    """The server as a child process, settled; ended at exit. OpenBaoError with the end of its log where it does not
    come up.
    """
    bao.prepare()
    log = bao.folder / "server.log"
    with log.open("ab") as out:
        process = subprocess.Popen(bao.argv(), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + timeout
        while not bao.listening():
            if process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
                raise OpenBaoError(f"OpenBao did not start:\n{tail}")
            time.sleep(0.05)
        bao.settle(timeout)
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        if process.poll() is None:
            process.kill()
            process.wait(5)
