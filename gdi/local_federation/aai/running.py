"""An LS AAI with REMS as a child process on a free port, for tests: keys and secrets of its own, and it never outlives
its parent.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from gdi.kit.secret_files import Secrets, write_private
from gdi.kit.tls import authorities
from gdi.local_federation.aai.client import SCOPE, TokenAnswer, sign_in

PORTAL, BROKER, RESOURCE, PUBLIC = "user-portal", "token-broker", "resource", "terminal"
REDIRECT = "http://127.0.0.1/callback"


@dataclass
class RunningAai:
    """`url` is http://127.0.0.1:PORT; clients user-portal, token-broker, resource (introspects only), terminal (public,
    device code); users alice and bob.
    """

    folder: Path
    config: dict[str, Any]
    secrets: Secrets
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    url: str = ""

    @property
    def issuer(self) -> str:
        return f"{self.url}/oidc"

    @property
    def visa_issuer(self) -> dict[str, str]:
        """The trusted pair of iss and jku."""
        return {"iss": f"{self.url}/rems/", "jku": f"{self.url}/rems/api/jwk"}

    def secret(self, client_id: str) -> str:
        return self.secrets.read(f"client-{client_id}")

    def start(self, timeout: float = 30) -> None:
        """Starts (or starts again, on the same port and state) and waits until it listens. RuntimeError with its last
        words where it does not.
        """
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        file = write_private(self.folder / "config.yaml", yaml.safe_dump(self.config))
        command = [sys.executable, "-m", "gdi.local_federation.aai", "--config", str(file), "--with-parent"]
        with (self.folder / "aai.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + timeout
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(
                    f"the LS AAI stand-in did not start: {(self.folder / 'aai.log').read_text()[-2000:]}"
                )
            time.sleep(0.05)
        self.url = json.loads(ready.read_text())["url"]
        self.config["port"] = httpx.URL(self.url).port

    def stop(self, *, kill: bool = False) -> None:
        if self.process is not None:
            (self.process.kill if kill else self.process.terminate)()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
            self.process = None

    def sign_in(self, username: str = "alice", *, client_id: str = PORTAL, scope: str = SCOPE) -> TokenAnswer:
        return sign_in(
            self.issuer,
            client_id=client_id,
            client_secret=None if client_id == PUBLIC else self.secret(client_id),
            redirect_uri=REDIRECT,
            username=username,
            password=self.secrets.read(f"user-{username}"),
            scope=scope,
        )

    def operator(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """A call of REMS's or the provider's operator API, with both keys."""
        headers = {
            "x-rems-api-key": self.secrets.read("rems-api-key"),
            "x-rems-user-id": "owner",
            "x-admin-key": self.secrets.read("admin-key"),
        }
        answer = httpx.request(
            method, self.url + path, headers=headers, timeout=30, trust_env=False, verify=authorities(), **kwargs
        )
        answer.raise_for_status()
        return answer

    def grant(self, user: str, dataset: str, **more: Any) -> None:
        """An entitlement; `variant`, `expires_in`, `source` … as in `gdi.local_federation.aai.config.Entitlement`."""
        self.operator("POST", "/rems/api/entitlements", json={"user": user, "dataset": dataset, **more})

    def withdraw(self, user: str, dataset: str) -> None:
        self.operator("DELETE", "/rems/api/entitlements", params={"user": user, "dataset": dataset})

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self.operator("GET", "/oidc/admin/stats").json()
        return found

    def faults(self, *faults: dict[str, Any]) -> None:
        """Faults as in `gdi.local_federation.aai.faults.Fault`, in place of those there are."""
        self.operator("PUT", "/oidc/admin/faults", json=list(faults))


@contextmanager
def running_aai(
    folder: Path,
    *,
    redirect_uris: list[str] | None = None,
    clients: list[dict[str, Any]] | None = None,
    **settings: Any,
) -> Iterator[RunningAai]:
    """Started, and stopped at the end. `settings` as in the YAML file (lifetimes, rotation, entitlements …); `clients`
    are added to the usual ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = Secrets(folder / "secrets")
    redirects = [REDIRECT, *(redirect_uris or [])]

    def secret(name: str) -> str:
        return str(kept.path(f"client-{name}"))

    usual: list[dict[str, Any]] = [
        {
            "id": PORTAL,
            "secret_file": secret(PORTAL),
            "redirect_uris": redirects,
            "grants": ["authorization_code", "refresh_token"],
        },
        {
            "id": BROKER,
            "secret_file": secret(BROKER),
            "redirect_uris": redirects,
            "grants": ["authorization_code", "refresh_token", "token_exchange"],
        },
        {"id": RESOURCE, "secret_file": secret(RESOURCE), "grants": [], "introspect": True},
        {"id": PUBLIC, "redirect_uris": redirects, "grants": ["authorization_code", "refresh_token", "device_code"]},
    ]
    usual[1]["introspect"] = True
    config: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "ready_file": "ready.json",
        "admin_key_file": str(kept.path("admin-key")),
        "rems_api_key_file": str(kept.path("rems-api-key")),
        "clients": usual + (clients or []),
        "users": [
            {"name": name, "password_file": str(kept.path(f"user-{name}")), "full_name": name.title()}
            for name in ("alice", "bob")
        ],
        **settings,
    }
    aai = RunningAai(folder, config, kept)
    try:
        aai.start()
        yield aai
    finally:
        aai.stop()
