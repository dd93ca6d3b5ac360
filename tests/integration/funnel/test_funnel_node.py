"""Promises of a node that runs the real Funnel, which Funnel alone does not keep: no task steers the sandbox's command
line, none is lost by a kill.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.funnel_kit import Funnel
from tests.support.tes_kit import CAPABILITY, IMAGE, FakeAai, FakeGateway, World, wait_for
from tests.support.weed import Weed

PROGRAM = os.environ.get("GDI_FUNNEL", "")
pytestmark = pytest.mark.skipif(not PROGRAM, reason="set GDI_FUNNEL=/path/to/funnel")


@pytest.fixture(scope="module")
def tes() -> Iterator[Funnel]:
    home, s3 = Path(tempfile.mkdtemp(prefix="fn-")), Path(tempfile.mkdtemp(prefix="fn-s3-"))
    weed = Weed(s3)
    world = World(home, weed, FakeGateway(home, funnel=True), FakeAai())
    server = Funnel(world, Path(PROGRAM))
    yield server
    server.close()
    world.close()
    weed.close()
    for folder in (home, s3):
        shutil.rmtree(folder, ignore_errors=True)


def sleepers() -> set[int]:
    """Sandboxed processes of the task that sleeps, by number."""
    return {p.pid for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "600.4711"]}


def test_values_with_white_space_arrive_whole_and_mount_nothing(tes: Funnel) -> None:
    """Funnel splits its command line at white space, so a task could name host folders to mount."""
    escape = f"x --volume {tes.world.home}:/gdi/leak:ro --env B=1+1%41"
    bucket = tes.world.weed.bucket
    script = "{ printf '%s\\n' \"$A\"; pwd; cat '/gdi/a b/in:put'; ls /gdi; } > /gdi/seen"
    executor = {"image": IMAGE, "command": ["sh", "-c", script], "env": {"A": escape}, "workdir": "/gdi/a b"}
    task = tes.run(
        {
            "name": "x",
            "executors": [executor],
            "inputs": [{"path": "/gdi/a b/in:put", "content": "typed\n"}],
            "outputs": [{"path": "/gdi/seen", "url": f"s3://{bucket}/r-9/seen"}],
        }
    )
    assert task["state"] == "COMPLETE", task["logs"]
    assert tes.world.weed.get("r-9/seen").decode().splitlines() == [escape, "/gdi/a b", "typed", "a b", "seen"]


def test_an_output_never_carries_a_file_of_the_host(tes: Funnel) -> None:
    """Funnel follows a link that a task leaves, and waits for ever at a pipe; what lies in the task's own folders it
    may store.
    """
    bucket, secret = tes.world.weed.bucket, tes.world.secret_key
    bad = (
        f"ln -s {secret} /gdi/o/f",
        f"ln -s {os.path.relpath(secret, '/')} /gdi/o/l; ln -s ../../../../../../../..{secret} /gdi/o/f",
        "mkfifo /gdi/o/f",
        f"mkdir /gdi/o/d; ln -s {secret} /gdi/o/d/x; (sleep 0.2; ln -sf {secret} /gdi/o/f) & echo fine > /gdi/o/f",
    )
    for i, script in enumerate(bad):
        output = {"path": "/gdi/o", "url": f"s3://{bucket}/r-8/{i}", "type": "DIRECTORY"}
        tes.run({"name": "x", "executors": [{"image": IMAGE, "command": ["sh", "-c", script]}], "outputs": [output]})
    for key in tes.world.weed.keys("r-8/"):
        assert b"PRIVATE KEY" not in tes.world.weed.get(key), key
    good = "echo kept > /gdi/o/real; ln -s /gdi/o/real /gdi/o/absolute; ln -s real /gdi/o/relative"
    outputs = [{"path": f"/gdi/o/{name}", "url": f"s3://{bucket}/r-7/{name}"} for name in ("absolute", "relative")]
    task = tes.run({"name": "x", "executors": [{"image": IMAGE, "command": ["sh", "-c", good]}], "outputs": outputs})
    assert task["state"] == "COMPLETE", task["logs"]
    assert {tes.world.weed.get(f"r-7/{name}") for name in ("absolute", "relative")} == {b"kept\n"}


def test_tasks_that_a_kill_interrupted_run_again_under_their_ids(tes: Funnel) -> None:
    """Funnel itself would show them as RUNNING for ever."""
    tes.world.gateway.files["DS1/again.c4gh"] = b"data"
    bucket = tes.world.weed.bucket
    script = "test -e /gdi/w/left && echo again > /gdi/w/left; touch /gdi/w/left; cat /gdi/in >> /gdi/w/left; sleep 4"
    ids = []
    for i in range(3):
        ids.append(
            tes.submit(
                {
                    "name": "x",
                    "executors": [{"image": IMAGE, "command": ["sh", "-c", script]}],
                    "inputs": [{"path": "/gdi/in", "url": f"sda://DS1/again.c4gh#{CAPABILITY}"}],
                    "outputs": [{"path": "/gdi/w/left", "url": f"s3://{bucket}/r-6/{i}"}],
                }
            )
        )
    for task_id in ids:
        tes.wait(task_id, "RUNNING")
    tes.kill_and_start_again()
    for i, task_id in enumerate(ids):
        task = tes.wait(task_id, seconds=240)
        assert task["state"] == "COMPLETE", task["logs"]
        assert tes.world.weed.get(f"r-6/{i}") == b"data", "from the start, in an empty folder"


def test_a_running_task_that_was_taken_up_again_can_be_cancelled(tes: Funnel) -> None:
    task_id = tes.submit({"name": "x", "executors": [{"image": IMAGE, "command": ["sleep", "600.4711"]}]})
    tes.wait(task_id, "RUNNING")
    first = wait_for("it runs", sleepers)
    tes.kill_and_start_again()
    assert tes.get(task_id, "MINIMAL")["state"] == "RUNNING"
    wait_for("it runs again, and the first one does not", lambda: sleepers() and not first & sleepers())
    assert tes.call("POST", f"/tasks/{task_id}:cancel").status_code == 200
    assert tes.wait(task_id)["state"] == "CANCELED"
    wait_for("nothing of it runs", lambda: not sleepers())


def test_funnel_survives_a_gateway_that_is_away_or_answers_with_an_error(tes: Funnel) -> None:
    """Funnel panics, and with it the whole node, on any answer but 200."""
    tes.world.gateway.files |= {"DS1/plain.txt": b"plain", "DS1/x.c4gh": b"data"}
    for path, faults in (("plain.txt", [503]), ("x.c4gh", [500]), ("none.txt", [])):
        tes.world.gateway.faults[:] = faults
        task = tes.run(
            {
                "name": "x",
                "executors": [{"image": IMAGE, "command": ["true"]}],
                "inputs": [{"path": "/gdi/in", "url": f"sda://DS1/{path}#{CAPABILITY}"}],
            }
        )
        assert task["state"] == "SYSTEM_ERROR", (path, task["logs"])
    assert tes.process.poll() is None
