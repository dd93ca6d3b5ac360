"""What only the stand-in promises: restarts, faults of its neighbours, hostile outputs, bounds, secrets kept, and its
speed.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from gdi.local_federation.tes import execute
from gdi.local_federation.tes.__main__ import main
from gdi.local_federation.tes.models import Task, TaskExecutor
from gdi.local_federation.tes.store import Filter, StandInTasks
from gdi.local_federation.tes.transfer import Budget, TryAgainError, with_retry
from gdi.runner.sandbox import Sandbox, find_maker
from gdi.runner.sandbox.bounds import Enforced
from gdi.runner.sandbox.supervisor import Bounds
from tests.support.tes_kit import CAPABILITY, IMAGE, PREFIX, ROOT, FakeAai, FakeGateway, StandIn, World, wait_for
from tests.support.weed import Weed

NO_BOUNDS = Enforced(Bounds(), [])

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    home = Path(tempfile.mkdtemp(prefix="tes-"))  # short: a unix socket's path has 107 bytes
    weed = Weed(home)
    made = World(home, weed, FakeGateway(home, funnel=False), FakeAai())
    yield made
    made.close()
    weed.close()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def shared(world: World) -> Iterator[StandIn]:
    limits = {"task_seconds": 3, "disk_bytes": 5_000_000, "transfer_files": 50}
    server = StandIn(
        world,
        limits=limits,
        images=[{"match": IMAGE}, {"match": "with-folder:*", "folders": [str(ROOT / "docs")], "path": "/usr/bin:/bin"}],
    )
    yield server
    server.close()


@pytest.fixture
def tes(shared: StandIn) -> StandIn:
    shared.world.gateway.requests.clear()
    shared.world.gateway.faults.clear()
    shared.world.gateway.damaged.clear()
    return shared


@pytest.fixture
def own(world: World) -> Iterator[Any]:
    """Makes a TES of the test's own, with settings."""
    made: list[StandIn] = []

    def make(**settings: Any) -> StandIn:
        made.append(StandIn(world, **settings))
        return made[-1]

    yield make
    for server in made:
        server.close()


def sh(script: str, **more: Any) -> dict[str, Any]:
    return {"executors": [{"image": IMAGE, "command": ["sh", "-c", script], **more.pop("executor", {})}], **more}


def said(task: dict[str, Any]) -> str:
    return "\n".join(task["logs"][0].get("system_logs", []))


def log_of(task: dict[str, Any], at: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = task["logs"][0]["logs"][at]
    return found


# --- restarts


def test_after_a_kill_what_ran_runs_again_under_its_id_what_waited_runs_once_and_what_ended_does_not(
    own: Any, world: World
) -> None:
    tes = own(slots=1)
    bucket = world.weed.bucket
    ended = tes.submit(sh("date +%N"))
    before = tes.wait(ended)
    ran = tes.submit(
        sh("sleep 1.5; echo ran > /gdi/out", outputs=[{"path": "/gdi/out", "url": f"s3://{bucket}/kill/ran"}])
    )
    waited = [tes.submit(sh("date +%N")) for _ in range(3)]
    tes.wait(ran, "RUNNING")
    tes.kill_and_start_again()
    after = tes.wait(ran)
    assert after["state"] == "COMPLETE" and "runs again" in said(after) and world.weed.get("kill/ran") == b"ran\n"
    assert [tes.wait(t)["state"] for t in waited] == ["COMPLETE"] * 3
    assert len({log_of(tes.get(t))["stdout"] for t in waited}) == 3
    assert tes.get(ended) == before
    assert len(tes.list(page_size=100)["tasks"]) == 5
    wait_for("no folder of a task stays", lambda: not list((tes.home / "state/tasks").iterdir()))


def test_nothing_in_a_sandbox_outlives_a_killed_service(own: Any) -> None:
    tes = own()
    tes.wait(tes.submit(sh("sleep 8317")), "RUNNING")
    wait_for("it runs", lambda: _processes("sleep 8317"))
    tes.process.kill()
    tes.process.wait(60)
    wait_for("it is gone", lambda: not _processes("sleep 8317"))


def test_a_service_that_is_asked_to_stop_stops_its_tasks_and_runs_them_when_it_is_back(own: Any) -> None:
    tes = own(slots=1)
    task = tes.submit(sh("sleep 2.0731; echo done"))
    tes.wait(task, "RUNNING")
    tes.close()
    assert tes.process.returncode in (0, -15) and not _processes("sleep 2.0731")
    tes.process = tes._start()
    assert log_of(tes.wait(task))["stdout"] == "done\n"


def test_a_cancel_that_was_asked_before_a_kill_holds_after_it(tmp_path: Path) -> None:
    store = StandInTasks(tmp_path / "db")
    first, second = (store.create("a", Task.model_validate(sh("true")), None) for _ in range(2))
    assert store.claim() is not None
    store.move(first, "CANCELING", of=("INITIALIZING",))
    assert store.recover() == 0
    assert (store.state(first, None), store.state(second, None)) == ("CANCELED", "QUEUED")


def test_two_services_never_share_a_state_folder(own: Any) -> None:
    tes = own()
    second = subprocess.run(
        [sys.executable, "-m", "gdi.local_federation.tes", "--config", str(tes.config)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=False,
    )
    assert second.returncode == 2 and "used by another TES" in second.stderr


# --- neighbours at fault


def test_a_gateway_that_is_away_or_cuts_is_waited_for(tes: StandIn) -> None:
    gateway = tes.world.gateway
    gateway.files["DS1/f.c4gh"] = b"data" * 50_000
    gateway.faults += [503, 0, 502]  # away, cut in the middle, bad gateway
    task = tes.run(sh("wc -c < /gdi/f", inputs=[{"url": f"sda://DS1/f.c4gh#{CAPABILITY}", "path": "/gdi/f"}]))
    assert task["state"] == "COMPLETE" and log_of(task)["stdout"].strip() == "200000", said(task)
    assert len(gateway.requests) == 4


def test_a_gateway_that_stays_away_fails_the_task_in_bounded_time_with_a_reason(own: Any, world: World) -> None:
    tes = own(
        archive={
            "url": "http://127.0.0.1:9",
            "secret_key_file": str(world.secret_key),
            "public_key_file": str(world.public_key),
            "retry_seconds": 1,
        }
    )
    task = tes.run(sh("true", inputs=[{"url": "sda://DS1/f.c4gh#x", "path": "/gdi/f"}]))
    assert (
        task["state"] == "SYSTEM_ERROR"
        and "sda://DS1/f.c4gh: the archive did not answer" in said(task)
        and "#" not in said(task)
    )


@pytest.mark.parametrize("name", ["damaged.c4gh", "damaged.txt"])
def test_a_file_whose_checksum_is_wrong_after_decryption_is_not_given_to_the_task(tes: StandIn, name: str) -> None:
    tes.world.gateway.files[f"DS1/{name}"] = b"data" * 50_000
    tes.world.gateway.damaged.add(f"DS1/{name}")
    task = tes.run(sh("cat /gdi/f", inputs=[{"url": f"sda://DS1/{name}#{CAPABILITY}", "path": "/gdi/f"}]))
    assert task["state"] == "SYSTEM_ERROR" and "checksum" in said(task) and not task["logs"][0]["logs"]


def test_an_object_that_does_not_exist_is_named_and_no_key_is(tes: StandIn) -> None:
    for url in (f"s3://{tes.world.weed.bucket}/none", "s3://no-such-bucket/x", "s3://x/../y"):
        task = tes.run(sh("true", inputs=[{"url": url, "path": "/gdi/f"}]))
        assert task["state"] == "SYSTEM_ERROR" and url in said(task)
        assert tes.world.weed.access not in str(task) and tes.world.weed.secret not in str(task)


def test_when_introspection_is_away_the_answer_says_so_and_nobody_gets_in(tes: StandIn) -> None:
    headers = tes.world.auth("erin")
    tes.world.aai.up = False
    try:
        answer = tes.call("GET", "/tasks", headers=headers)
    finally:
        tes.world.aai.up = True
    assert answer.status_code == 503 and "introspect" in answer.json()["detail"]
    assert tes.call("GET", "/tasks", headers=headers).status_code == 200


def test_introspection_is_cached_for_seconds_only(tes: StandIn) -> None:
    headers = tes.world.auth("frank")
    before = tes.world.aai.introspections
    for _ in range(5):
        assert tes.call("GET", "/tasks", headers=headers).status_code == 200
    assert tes.world.aai.introspections - before <= 2
    tes.world.aai.revoked.add(headers["Authorization"].removeprefix("Bearer "))
    wait_for("the revocation is seen", lambda: tes.call("GET", "/tasks", headers=headers).status_code == 401, 30)


def test_patience_is_bounded_in_time_and_attempts() -> None:
    calls = 0

    def fail() -> None:
        nonlocal calls
        calls += 1
        raise TryAgainError("away", attempts=3)

    with pytest.raises(Exception, match=r"away \(tried 3 times\)"):
        with_retry(fail, Budget(1, 1), 60)
    assert calls == 3


# --- hostile tasks


def test_an_output_that_is_a_link_out_of_the_task_is_not_followed(tes: StandIn) -> None:
    secret = tes.world.secret_key
    bucket = tes.world.weed.bucket
    for script in (
        f"ln -s {secret} /gdi/o/f",
        f"ln -s ../../../../../../../..{secret} /gdi/o/f",
        "mkfifo /gdi/o/f",
        "ln -s /proc/1/environ /gdi/o/f",
    ):
        task = tes.run(sh(script, outputs=[{"path": "/gdi/o/f", "url": f"s3://{bucket}/hostile/f"}]))
        assert task["state"] == "SYSTEM_ERROR", script
    task = tes.run(
        sh(
            f"ln -s {secret.parent} /gdi/o/d; echo x > /gdi/o/x",
            outputs=[{"path": "/gdi/o", "url": f"s3://{bucket}/hostile/o", "type": "DIRECTORY"}],
        )
    )
    assert task["state"] == "COMPLETE" and tes.world.weed.keys("hostile/") == ["hostile/o/x"]


def test_a_link_within_the_task_is_an_output_like_any_other(tes: StandIn) -> None:
    task = tes.run(
        sh(
            "echo x > /gdi/o/a; ln -s /gdi/o/a /gdi/o/b",
            outputs=[{"path": "/gdi/o/b", "url": f"s3://{tes.world.weed.bucket}/link/b"}],
        )
    )
    assert task["state"] == "COMPLETE" and tes.world.weed.get("link/b") == b"x\n"


def test_a_stream_never_writes_through_a_link_that_an_earlier_executor_left(tes: StandIn, tmp_path: Path) -> None:
    target = tmp_path / "victim"
    target.write_text("untouched")
    executors = [
        {"image": IMAGE, "command": ["ln", "-s", str(target), "/gdi/o/log"]},
        {"image": IMAGE, "command": ["echo", "overwritten"], "stdout": "/gdi/o/log"},
    ]
    tes.run({"executors": executors})
    assert target.read_text() == "untouched"


@pytest.mark.parametrize(
    "path",
    ["/etc/x", "/usr/bin/sh", "/proc/x/y", "/x", "relative/x", "/gdi/../etc/x", "/", "//etc/x", "/dev/shm/x", "/lib/x"],
)
def test_inputs_and_outputs_never_lie_in_the_systems_folders(tes: StandIn, path: str) -> None:
    for task in (
        sh("true", inputs=[{"content": "x", "path": path}]),
        sh("true", outputs=[{"url": "s3://b/k", "path": path}]),
    ):
        answer = tes.call("POST", "/tasks", json=task)
        assert answer.status_code == 422 and "path" in answer.json()["detail"], path


def test_an_image_that_the_node_does_not_run_is_refused_and_one_with_folders_sees_them_read_only(tes: StandIn) -> None:
    refused = tes.run({"executors": [{"image": "evil:latest", "command": ["true"]}]})
    assert refused["state"] == "SYSTEM_ERROR" and "evil:latest" in said(refused)
    script = f"head -1 {ROOT}/docs/facts.md; touch {ROOT}/docs/x; ls {ROOT}"
    folder = tes.run({"executors": [{"image": "with-folder:1", "command": ["sh", "-c", script]}]})
    assert (
        log_of(folder)["stdout"].startswith("#")
        and log_of(folder)["stdout"].endswith("docs\n")
        and "Read-only" in log_of(folder)["stderr"]
    )


def test_time_output_and_disk_are_bounded(tes: StandIn) -> None:
    slow = tes.run(sh("echo begun; sleep 60"))
    assert (
        slow["state"] == "EXECUTOR_ERROR"
        and "3 s" in said(slow)
        and log_of(slow)["stdout"] == "begun\n"
        and log_of(slow)["exit_code"] == 137
    )
    loud = tes.run(sh("head -c 3000000 /dev/zero | tr '\\0' x; echo end"))
    assert len(log_of(loud)["stdout"]) == 16 * 1024 and log_of(loud)["stdout"].endswith("end\n")
    big = tes.run(
        sh(
            "head -c 20000000 /dev/zero > /gdi/o/f",
            outputs=[{"path": "/gdi/o/f", "url": f"s3://{tes.world.weed.bucket}/big"}],
        )
    )
    assert big["state"] == "EXECUTOR_ERROR"
    tes.world.gateway.files["DS1/big.c4gh"] = bytes(6_000_000)
    staged = tes.run(sh("true", inputs=[{"url": f"sda://DS1/big.c4gh#{CAPABILITY}", "path": "/gdi/f"}]))
    assert staged["state"] == "SYSTEM_ERROR" and "more data than this node allows" in said(staged)
    many = tes.run(
        sh(
            "for i in $(seq 60); do echo > /gdi/o/$i; done",
            outputs=[{"path": "/gdi/o", "url": f"s3://{tes.world.weed.bucket}/many", "type": "DIRECTORY"}],
        )
    )
    assert many["state"] == "SYSTEM_ERROR" and "more files" in said(many)


def test_wildcards_take_what_fits(tes: StandIn) -> None:
    output = {"path": "/gdi/o/*.txt", "path_prefix": "/gdi/o", "url": f"s3://{tes.world.weed.bucket}/wild"}
    task = tes.run(sh("touch /gdi/o/a.txt /gdi/o/b.txt /gdi/o/c.bin", outputs=[output]))
    assert task["state"] == "COMPLETE", said(task)
    assert tes.world.weed.keys("wild/") == ["wild/a.txt", "wild/b.txt"]


def test_odd_names_and_folders_that_the_task_locked_are_handled(tes: StandIn) -> None:
    name = "a b'\"ü%20$(id)#.txt"
    script = 'cat "$1" > "$2"; mkdir /gdi/o/locked; touch /gdi/o/locked/f; chmod 000 /gdi/o/locked'
    task = tes.run(
        {
            "executors": [{"image": IMAGE, "command": ["sh", "-c", script, "sh", "/gdi/i/ x", f"/gdi/o/{name}"]}],
            "inputs": [{"content": "odd", "path": "/gdi/i/ x"}],
            "outputs": [{"path": f"/gdi/o/{name}", "url": f"s3://{tes.world.weed.bucket}/odd/{name}"}],
        }
    )
    assert task["state"] == "COMPLETE", said(task)
    assert tes.world.weed.get(f"odd/{name}") == b"odd"
    wait_for("its folder is removed", lambda: not (tes.home / "state/tasks" / task["id"]).exists())


def test_a_cancel_while_staging_and_while_waiting_ends_the_task(own: Any) -> None:
    tes = own(slots=1)
    tes.world.gateway.faults += [503] * 1000
    staging = tes.submit(sh("true", inputs=[{"url": f"sda://DS1/f.c4gh#{CAPABILITY}", "path": "/gdi/f"}]))
    waiting = tes.submit(sh("true"))
    tes.wait(staging, "INITIALIZING")
    for task in (waiting, staging):
        tes.call("POST", f"/tasks/{task}:cancel")
        assert tes.wait(task, seconds=10)["state"] == "CANCELED"
    tes.world.gateway.faults.clear()
    assert tes.run(sh("true"))["state"] == "COMPLETE", "the slot is free again"


# --- secrets


def test_no_credential_is_in_the_log_nor_in_the_database_once_a_task_has_ended(own: Any) -> None:
    tes = own()
    tes.world.gateway.files["DS1/s.c4gh"] = b"x"
    headers = tes.world.auth("grace")
    token = headers["Authorization"].removeprefix("Bearer ")
    tes.world.gateway.capabilities.add(token)
    task = sh("true", inputs=[{"url": "sda://DS1/s.c4gh", "path": "/gdi/s"}])
    task_id = tes.call("POST", "/tasks", headers=headers, json=task).json()["id"]
    assert tes.wait(task_id)["state"] == "COMPLETE"
    tes.run(sh("true", inputs=[{"url": "sda://DS1/s.c4gh#fragment-planted-0815", "path": "/gdi/s"}]))
    tes.run(sh("true", inputs=[{"url": "ftp://h/x#fragment-planted-0815", "path": "/gdi/s"}]))
    for secret in (
        token,
        tes.world.service_password,
        tes.world.aai.client_secret,
        tes.world.weed.secret,
        "fragment-planted-0815",
    ):
        assert secret not in tes.log()
    for file in (tes.home / "state").glob("tes.sqlite*"):
        assert file.stat().st_mode & 0o077 == 0
    with sqlite3.connect(tes.home / "state/tes.sqlite") as db:
        assert token not in json.dumps(db.execute("SELECT * FROM tasks").fetchall())
    assert (tes.home / "state").stat().st_mode & 0o077 == 0


def test_wrong_settings_are_named_at_start(tes: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = yaml.safe_load(tes.config.read_text())
    open_secret = tmp_path / "open"
    open_secret.write_text("x")
    open_secret.chmod(0o644)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"slots": 0}, "slots"),
        ({"unknown": 1}, "unknown"),
        ({"introspection": None, "service_accounts": []}, "nobody could sign in"),
        ({"service_accounts": [{"user": "g", "password_file": str(open_secret)}]}, "chmod 600"),
        ({"s3": {"endpoint": "http://x", "credentials_file": str(tmp_path / "absent")}}, "absent"),
        ({"port": int(tes.url.rpartition(":")[2])}, "choose another port"),
    ]
    for change, text in wrong:
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump({**good, "state_dir": str(tmp_path / "state"), **change}))
        assert main(["--config", str(file)]) == 2
        assert text in capsys.readouterr().err, change


# --- lists and speed


def test_a_page_token_survives_new_tasks_and_a_wrong_one_is_refused(tmp_path: Path, tes: StandIn) -> None:
    store = StandInTasks(tmp_path / "db")
    ids = [store.create("a", Task.model_validate(sh("true", name="n")), None) for _ in range(5)]
    page, before = store.page("MINIMAL", Filter(size=2))
    store.create("a", Task.model_validate(sh("true", name="n")), None)
    rest, end = store.page("MINIMAL", Filter(size=10, before=before))
    assert [json.loads(t)["id"] for t in page + rest] == ids[::-1] and end is None
    assert tes.call("GET", "/tasks", params={"page_token": "!!"}).status_code == 400
    assert tes.call("GET", "/tasks", params={"tag_key": "a", "tag_value": ["b", "c"]}).status_code == 400


def test_ten_thousand_tasks_are_listed_by_tag_in_pages_without_a_scan(tmp_path: Path) -> None:
    store = StandInTasks(tmp_path / "db")
    store.db.execute("BEGIN")
    store.db.executemany(
        "INSERT INTO tasks (id, owner, state, name, created, basic, spec) VALUES (?, 'a', 'QUEUED', '', '', ?, ?)",
        [(f"t-{i}", body, body) for i in range(30_000) for body in [Task.model_validate(sh("true")).stored()]],
    )
    store.db.execute("INSERT INTO tags SELECT 'gdi-run', 'r-' || (seq % 3), seq FROM tasks")
    store.db.execute("COMMIT")
    seen, before, steps = 0, None, 0

    def thousand() -> int:
        nonlocal steps
        steps += 1000
        return 0

    store.db.set_progress_handler(thousand, 1000)  # steps of SQLite's machine: the same on every computer
    begun = time.perf_counter()
    while True:
        page, before = store.page("BASIC", Filter(tags=[("gdi-run", "r-1")], size=2000, before=before))
        seen += len(page)
        if before is None:
            break
    took = time.perf_counter() - begun
    print(f"10,000 of 30,000 tasks listed by tag in {took:.2f} s, {steps / seen:.0f} steps a task")
    assert seen == 10_000 and steps < 200 * seen


def test_submissions_are_taken_while_tasks_run(own: Any) -> None:
    tes = own(slots=1)
    running = tes.submit(sh("sleep 600"))
    tes.wait(running, "RUNNING")
    with (
        httpx.Client(headers=tes.world.service(), trust_env=False, timeout=60) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        begun = time.perf_counter()
        answers = list(
            pool.map(
                lambda i: client.post(tes.url + PREFIX + "/tasks", json=sh("true", tags={"n": str(i)})), range(200)
            )
        )
        rate = 200 / (time.perf_counter() - begun)
    assert all(a.status_code == 200 for a in answers)
    print(f"{rate:.0f} submissions a second")
    assert tes.get(running, "MINIMAL")["state"] == "RUNNING", "no submission waited for the task's end"
    assert tes.call("POST", f"/tasks/{running}:cancel").status_code == 200


def _processes(text: str) -> list[str]:
    found = []
    for process in Path("/proc").iterdir():
        try:
            if (
                process.name.isdigit()
                and (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip() == text
            ):
                found.append(process.name)
        except OSError:
            continue
    return found


@pytest.mark.skipif(find_maker().kind != "bubblewrap", reason="an engine ends its own containers")
async def test_a_sandbox_cancelled_while_it_is_made_leaves_nothing_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    """bubblewrap's child, killed too late to know of its parent's death, held the pipes: the task stayed CANCELING for
    as long as its command ran.
    """
    executor = TaskExecutor(image=IMAGE, command=["sleep", "4711"])
    for millisecond in range(0, 60, 2):
        running = asyncio.create_task(execute.run(executor, Sandbox(), find_maker(), tmp_path, 60, NO_BOUNDS))
        await asyncio.sleep(millisecond / 1000)
        running.cancel()
        done, _ = await asyncio.wait([running], timeout=60)
        assert done, f"cancelled after {millisecond} ms it still waits"
    left = [p.info for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [])[-2:] == ["sleep", "4711"]]
    assert not left, left
