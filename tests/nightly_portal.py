"""`make nightly-portal`: clients that nobody here wrote against the portal's WES and API, each in an environment of its
own: dnastack-client-library, wes-service 5 (wes-client), schemathesis over both OpenAPI documents, the calls of
sapporo-service's integration tests (GDI_SAPPORO=FOLDER of a copy of it); and docs/examples/airflow.py as it is written,
with apache-airflow-client, against a real Airflow api-server.

The portal stands between the tests' broker and Airflow in memory, on a real port. Prints a line for each; exits 1 where
one did not do what it should.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvicorn

from gdi.contracts.ids import make_run_id
from gdi.contracts.run_endings import Standing
from tests.nightly_portal_sapporo import CALLS, DIFFERENCES, moved
from tests.support.portal_world import DATASETS, WORKFLOW, PortalWorld, portal_world
from tests.support.ui_world import Airflow

CLIENTS = {"dnastack": "dnastack-client-library==3.1.240", "wes": "wes-service==5.0", "schemathesis": "schemathesis>=4"}
CLIENTS["sapporo"] = "httpx"  # and what its tests' helpers import
CLIENTS["airflow"] = "apache-airflow-client>=3.1,<4"  # which brings no httpx: the example names both
EXAMPLES, SECONDS = 15, 240  # of schemathesis: for each operation, and for all
DNASTACK = """
import json, sys, requests
from dnastack.client.models import ServiceEndpoint
from dnastack.alpha.client.wes.client import RunRequest, WesClient
url, token, params = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
send = requests.Session.request
def signed(self, method, where, **options):
    options["headers"] = {**(options.get("headers") or {}), "Authorization": f"Bearer {token}"}
    return send(self, method, where, **options)
requests.Session.request = signed
client = WesClient.make(ServiceEndpoint(url=url))
assert client.get_service_info()["type"]["artifact"] == "wes"
workflow = url.split("/ga4gh/")[0] + "/v1/workflows/" + sys.argv[4]
made = [client.submit(RunRequest(workflow_url=workflow, workflow_params=params, workflow_type="SMK",
                                 workflow_type_version="9", tags={"n": str(n)})) for n in range(3)]
listed = [run.run_id for run in client.get_runs(page_size=2)]
assert listed == made[::-1], (listed, made)
run = client.run(made[0])
assert run.status == "QUEUED", run.status
run.cancel()
assert run.status in ("CANCELING", "CANCELED"), run.status
print("submitted, listed by pages, looked at and cancelled")
"""


def environment(folder: Path, name: str) -> Path:
    """The `bin` of a new environment with that client; RuntimeError with the end of what pip said."""
    home = folder / name
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    more = {"airflow": ["httpx"], "sapporo": ["pytest", "argon2-cffi"]}.get(name, [])
    done = subprocess.run([home / "bin" / "pip", "-q", "install", CLIENTS[name], *more], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{CLIENTS[name]} cannot be installed: {done.stderr[-500:]}")
    return home / "bin"


async def run(*command: object, timeout: float = 300, env: dict[str, str] | None = None) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=env,
        cwd=tempfile.gettempdir(),  # schemathesis keeps what it found in a folder where it stands
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), timeout)
    except TimeoutError:
        process.kill()
        return 124, f"no end after {timeout:.0f} s"
    return process.returncode or 0, out.decode(errors="replace")


async def dnastack(bin_: Path, url: str, _: PortalWorld) -> tuple[bool, str]:
    params = json.dumps({"datasets": list(DATASETS.values()), "regions": 4})
    code, out = await run(bin_ / "python", "-c", DNASTACK, f"{url}/ga4gh/wes/v1/", "token-alice", params, WORKFLOW)
    return code == 0, out.strip()[-600:]


async def wes(bin_: Path, url: str, world: PortalWorld) -> tuple[bool, str]:
    """wes-client's list, get, log and info; its `run` knows CWL, WDL and Python only."""
    started = await world.started()
    ended = Standing(standing="succeeded", sentence="The answer is there.", ended_at=time.time())
    world.airflow.put(await world.dag_run(started), ended, "success")
    world.door.watch._known.clear()
    client = [bin_ / "wes-client", "--host", url.partition("://")[2], "--proto", "http"]
    client += ["--auth", "Authorization: Bearer token-alice"]
    for option, wanted in (
        (["--info"], '"supported_wes_versions"'),
        (["--list"], started),
        (["--get", started], '"COMPLETE"'),
        (["--log", started], "The answer is there."),
    ):
        code, out = await run(*client, *option)
        if code or wanted not in out:
            return False, f"{' '.join(option)}: {out[-500:]}"
    return True, "info, list, get, log"


async def schemathesis(bin_: Path, url: str, _: PortalWorld) -> tuple[bool, str]:
    said = []
    good = True
    for where, base in ((f"{url}/openapi.json", url), (f"{url}/ga4gh/wes/v1/openapi.json", f"{url}/ga4gh/wes/v1")):
        options = ["--url", base, "-H", "Authorization: Bearer token-alice", "--max-examples", EXAMPLES]
        checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
        command = [bin_ / "schemathesis", "run", where, *options, "--checks", checks, "--seed", 1]
        command += ["--phases", "examples,coverage,fuzzing", "--exclude-path-regex", "crate|files|logs"]
        code, out = await run(*command, timeout=SECONDS)
        good = good and code == 0
        said.append(out[-3000 if code else -300 :].strip())
    return good, "\n".join(said)


async def sapporo(bin_: Path, url: str, world: PortalWorld) -> tuple[bool, str]:
    folder = os.environ.get("GDI_SAPPORO", "")
    if not Path(folder, "tests/integration/conftest.py").is_file():
        return False, "set GDI_SAPPORO to a copy of sapporo-service"
    world.airflow.runs.clear()
    params = json.dumps({"datasets": list(DATASETS.values()), "regions": 4})
    moving = asyncio.create_task(moved(world))
    workflow = f"{url}/v1/workflows/{WORKFLOW}"
    try:
        code, out = await run(bin_ / "python", "-c", CALLS, folder, f"{url}/ga4gh/wes/v1", workflow, params)
    finally:
        moving.cancel()
    return code == 0, f"{out.strip()[-900:]} ({DIFFERENCES})" if code == 0 else out[-1500:]


async def airflow(bin_: Path, _: str, world: PortalWorld) -> tuple[bool, str]:
    """The broker is the tests' own, on a port; what the scheduler would do to the run is written for it."""
    config = uvicorn.Config(world.broker.app, host="127.0.0.1", port=8098, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    with tempfile.TemporaryDirectory() as folder:
        made = await asyncio.to_thread(Airflow, Path(folder), "http://127.0.0.1:8098")
        try:
            environment = {
                "PATH": os.environ["PATH"],
                "GDI_BROKER": "http://127.0.0.1:8098",
                "GDI_TOKEN": "token-alice",
                "GDI_AIRFLOW": made.url,
                "GDI_AIRFLOW_TOKEN": str(made.http.headers["authorization"]).removeprefix("Bearer "),
                "GDI_WORKFLOW": WORKFLOW,
                "GDI_DATASETS": json.dumps([*DATASETS.values()]),
            }
            example = Path(__file__).parents[1] / "docs" / "examples" / "airflow.py"
            asked = asyncio.create_task(run(bin_ / "python", example, env=environment))
            while not asked.done():
                await asyncio.sleep(1)
                with sqlite3.connect(made.folder / "airflow.db") as database:
                    for (name,) in database.execute(
                        "SELECT run_id FROM dag_run WHERE run_id LIKE 'portal-%'"
                    ).fetchall():
                        answer = made.results / make_run_id(WORKFLOW, name) / "answer.tsv"
                        answer.parent.mkdir(exist_ok=True)
                        answer.write_text("CHROM\tPOS\n")
                    database.execute("UPDATE dag_run SET state = 'success' WHERE run_id LIKE 'portal-%'")
            code, out = await asked
        finally:
            await asyncio.to_thread(made.close)
            server.should_exit = True
            await serving
    return code == 0 and "CHROM\tPOS" in out and len(world.broker.tickets) > 0, out.strip()[-600:]


async def main(names: list[str]) -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        async with portal_world(Path(folder), public_url="http://127.0.0.1:8099") as world:
            world.consent()
            config = uvicorn.Config(world.app, host="127.0.0.1", port=8099, log_level="warning", lifespan="off")
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve())
            for name in names or CLIENTS:
                try:
                    bin_ = await asyncio.to_thread(environment, Path(folder), name)
                    good, said = await {
                        "dnastack": dnastack,
                        "wes": wes,
                        "schemathesis": schemathesis,
                        "sapporo": sapporo,
                        "airflow": airflow,
                    }[name](bin_, "http://127.0.0.1:8099", world)
                except RuntimeError as error:
                    good, said = False, str(error)
                failed += not good
                print(f"{'ok    ' if good else 'FAILED'} {CLIENTS[name]}: {said}", flush=True)
            server.should_exit = True
            await serving
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
