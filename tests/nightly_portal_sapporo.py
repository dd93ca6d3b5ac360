"""The calls of sapporo-service's published integration tests, by its own helpers (`tests/integration/conftest.py` of a
copy: GDI_SAPPORO=FOLDER), against the portal's WES.

What its tests ask: a run that completes with exit code 0 and outputs; one that is cancelled while it runs; a cancel of
one that is over changes nothing; a cancel of an unknown run is a 404; without a token 401; a person lists their own
runs only. Where a test of it holds what WES leaves open, or what only sapporo offers, the difference is named in
DIFFERENCES.
"""

from __future__ import annotations

import asyncio
import time

from gdi.contracts.run_endings import Standing
from tests.support.portal_world import PortalWorld

DIFFERENCES = (
    "a Snakefile that nobody approved is refused at the POST by a 4xx (sapporo takes it and ends in EXECUTOR_ERROR);"
    " another's run is a 404 (sapporo: 403), so that its existence is not told;"
    " DELETE /runs/{id} is sapporo's own, in no version of WES"
)
CALLS = """
import sys, tempfile, json, httpx
from pathlib import Path
folder, url, workflow, params = sys.argv[1:]
sys.path.insert(0, folder)
from tests.integration import conftest as theirs
smk = theirs.RESOURCES_DIR / "snakemake"
params_file = Path(tempfile.mkstemp()[1]); params_file.write_text(params)
alice, bob = (theirs.auth_headers("token-" + who) for who in ("alice", "bob"))
with httpx.Client(base_url=url, timeout=30) as client:
    def submit(file, wf=workflow, attachments=()):
        return theirs.submit_workflow(client, wf_type="SMK", wf_type_version="9", wf_engine="snakemake", wf_url=wf,
                                      params_file=file, attachments=list(attachments), headers=alice)
    run = submit(params_file)
    assert theirs.wait_for_completion(client, run, timeout=60, poll_interval=1, headers=alice) == "COMPLETE"
    log = theirs.get_run_log(client, run, headers=alice)
    assert log["run_log"]["exit_code"] == 0 and log["outputs"], log
    client.post(f"/runs/{run}/cancel", headers=alice).raise_for_status()
    assert theirs.get_run_log(client, run, headers=alice)["state"] == "COMPLETE"
    other = submit(params_file)
    theirs.wait_for_running(client, other, timeout=60, poll_interval=1, headers=alice)
    client.post(f"/runs/{other}/cancel", headers=alice).raise_for_status()
    assert theirs.wait_for_completion(client, other, timeout=60, poll_interval=1, headers=alice) == "CANCELED"
    assert theirs.get_run_log(client, other, headers=alice)["run_log"]["exit_code"] not in (0,)
    assert client.post("/runs/00000000-0000-0000-0000-000000000000/cancel", headers=alice).status_code == 404
    assert client.get("/runs").status_code == 401
    assert client.post("/runs", data={"workflow_type": "SMK", "workflow_url": workflow}).status_code == 401
    assert client.get("/runs", headers=alice).status_code == 200
    assert client.get(f"/runs/{run}", headers=bob).status_code == 404
    assert run not in [one["run_id"] for one in client.get("/runs", headers=bob).json()["runs"]]
    for wf, files in (("Snakefile", ["Snakefile", "input.txt"]), ("nonexistent_Snakefile", ["input.txt"])):
        try:
            submit(smk / "config.json", wf, [smk / name for name in files])
        except httpx.HTTPStatusError as error:
            assert 400 <= error.response.status_code < 500 and error.response.json()["msg"], error.response.text
        else:
            raise AssertionError(wf + " was taken")
print("completed, cancelled, cancelled when over, unknown, without token, another's, unapproved Snakefiles")
"""


async def moved(world: PortalWorld) -> None:
    """Each new run runs after a second; the first of them succeeds after another."""
    seen: dict[str, float] = {}
    while True:
        await asyncio.sleep(0.2)
        for (_, name), run in list(world.airflow.runs.items()):
            since = time.monotonic() - seen.setdefault(name, time.monotonic())
            if run["state"] == "queued" and since > 1:
                world.broker.run(name)
                world.airflow.put(name, Standing(standing="running", sentence="0 of 4 jobs are done."))
            elif run["state"] == "running" and since > 2 and name == next(iter(seen)):
                done = Standing(standing="succeeded", sentence="The answer is there.", ended_at=time.time())
                world.airflow.put(name, done, "success")
