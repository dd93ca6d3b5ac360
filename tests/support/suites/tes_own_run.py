"""`make nightly-tes FOLDER=…`: ELIXIR's openapi-test-runner, fetched, against the stand-in's TES, and against a node's
gateway in front of it.

`FOLDER` is the checkout, installed in a virtual environment of its own: `FOLDER/.venv/bin/openapi-test-runner`, or
`--runner`. The runner sends no credentials, so a small proxy adds them. Prints each test file that fails, with the
runner's words, and both rates. Exit code 1 where one fails that KNOWN does not name with TES's own sentence.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx

from tests.support import gateway_world
from tests.support.tes_kit import FakeAai, FakeGateway, StandIn, World, private
from tests.support.weed import Weed

PREFIX = "/ga4gh/tes"
TIMEOUT = 3600  # seconds of one pass
# By server and test file: what TES 1.1 says that speaks for the server; docs/compatibility-services.md quotes it.
QUEUED = (
    "it reads a task's logs as soon as it is made, and expects its first command's; TES 1.1, tesState: "
    '"QUEUED: The task is queued and awaiting resources to begin computing."'
)
FOREIGN = (
    "it names s3://my-object-store without a right to it; a gateway takes the run's own workspace and datasets. "
    'TES 1.1, Authentication and Authorization: "Checking that a user is authorized to submit TES requests is a '
    'responsibility of TES implementations."; tesServiceInfo, storage: "Lists some, but not necessarily all, storage '
    'locations supported by the service."'
)
KNOWN: dict[str, dict[str, str]] = {
    "stand-in": {"create_task_ignore_error": QUEUED},
    "gateway": {
        **dict.fromkeys(("create_task_inputs", "create_task_outputs", "create_task_optional_filetype"), FOREIGN),
        "create_task_streamable": FOREIGN,
        "create_task_ignore_error": QUEUED,
    },
}


class Proxy:
    """Passes requests on to `target`, with a credential that is made for each."""

    def __init__(self, target: str, credential: Callable[[], str]) -> None:
        client = httpx.Client(base_url=target, timeout=60, trust_env=False)

        class Handler(BaseHTTPRequestHandler):
            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {"Authorization": credential(), "Content-Type": self.headers.get("Content-Type") or ""}
                answer = client.request(self.command, self.path, content=body, headers=headers)
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers.get("content-type", "application/json"))
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = _pass_on

            def log_message(self, *_: object) -> None:
                """Nothing: the runner tells."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}{PREFIX}/"

    def close(self) -> None:
        self._server.shutdown()


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    options.add_argument("--runner", type=Path)
    options.add_argument("--test", action="append", default=[], help="a file below FOLDER/tests, without .yml")
    given = options.parse_args()
    runner = given.runner or given.folder / ".venv/bin/openapi-test-runner"
    with tempfile.TemporaryDirectory(prefix="tes-") as made:
        home = Path(made)
        (home / "gw").mkdir()
        weed = Weed(home)
        world = World(home, weed, FakeGateway(home, funnel=False), FakeAai())
        tes = StandIn(world, images=[{"match": "*"}])
        gateway = gateway_world.World(home / "gw")
        try:
            direct = Proxy(tes.url, lambda: world.service()["Authorization"])
            in_front = Proxy(gateway.url, before(gateway, tes))
            results = {
                "stand-in": passed(runner, given.folder, direct.url, given.test),
                "gateway": passed(runner, given.folder, in_front.url, given.test),
            }
        finally:
            gateway.close()
            tes.close()
            world.close()
            weed.close()
    return 0 if all([report(server, found) for server, found in results.items()]) else 1


def before(gateway: gateway_world.World, tes: StandIn) -> Callable[[], str]:
    """The gateway stands in front of that TES, and lets the runner's image run; a run's token for each request."""
    gateway.stop()
    gateway.broker.make_token = lambda audience: tes.world.aai.token("alice")
    password = private(gateway.folder / "stand-in-password", tes.world.service_password)
    gateway.extra = {"TES_URL": tes.url, "TES_USER": "gateway", "TES_PASSWORD_FILE": str(password)}
    gateway.policy(images=["alpine"], max_tasks_per_run=1000)
    gateway.start()
    run = gateway.new_run()
    return lambda: f"Bearer {run.token()}"


def passed(runner: Path, folder: Path, server: str, only: list[str]) -> dict[str, list[str]]:
    """By test file: what failed in it, in the runner's words."""
    found: dict[str, list[str]] = {}
    for file in sorted((folder / "tests").glob("*.yml")):
        if only and file.stem not in only:
            continue
        with tempfile.TemporaryDirectory() as out:
            command = [str(runner), "report", "-s", server, "-v", "1.1.0", "-tp", str(file), "-o", out]
            said = subprocess.run(command, cwd=folder, timeout=TIMEOUT, capture_output=True, text=True, check=False)
            written = Path(out) / "report.json"
            words = said.stderr.strip()[-500:] or "the runner said nothing"
            found[file.stem] = failures(json.loads(written.read_text())) if written.exists() else [words]
    return found


def failures(report_: dict[str, Any]) -> list[str]:
    cases = [case for phase in report_["phases"] for test in phase["tests"] for case in test["cases"]]
    if not cases:
        return ["no case was run"]
    return [
        f"{c['case_name']}: {c['message']} {' '.join(c['log_messages'])[:300]}" for c in cases if c["status"] == "FAIL"
    ]


def report(server: str, found: dict[str, list[str]]) -> bool:
    """Prints; whether what fails is known."""
    failed = {name: why for name, why in found.items() if why}
    for name, why in failed.items():
        print(f"{server}: {name}: {'; '.join(why)}" + (f" -- {known}" if (known := KNOWN[server].get(name)) else ""))
    print(f"openapi-test-runner, {server}: {len(found) - len(failed)} of {len(found)} files pass")
    return set(failed) <= set(KNOWN[server])


if __name__ == "__main__":
    sys.exit(main())
