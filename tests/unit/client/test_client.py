"""`gdi.client` and its commands against a portal on a port: what is refused and how it ends, then from the device code
to a table.
"""

from __future__ import annotations

import io
import json
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from gdi.cli.main import invoke
from gdi.client import AsyncPortalClient, DeviceLogin, PortalClient, ProblemError, completion, stored_login
from gdi.client.exit_codes import ENDED_BADLY, NOT_THERE, REFUSED, SIGNED_OUT, USAGE
from gdi.client.frames import frame_of
from gdi.client.login import login_file
from gdi.contracts.run_endings import Standing
from gdi.kit.secret_files import write_private
from gdi.local_federation.aai.running import RunningAai, running_aai
from tests.support.portal_server import PortalServer
from tests.support.portal_world import ALICE, DATASETS, WORKFLOW
from tests.support.processes import free_port

BOTH = list(DATASETS.values())


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PortalServer, RunningAai]]:
    folder = tmp_path_factory.mktemp("portal")
    with running_aai(folder / "aai", device_interval=1) as aai, PortalServer(folder, aai, free_port()) as server:
        yield server, aai


def decide(aai: RunningAai, device: DeviceLogin, decision: str) -> None:
    form = {
        "user_code": device.code,
        "username": "alice",
        "password": aai.secrets.read("user-alice"),
        "decision": decision,
    }
    httpx.post(device.url, data=form, trust_env=False, timeout=30).raise_for_status()


@pytest.fixture(scope="module")
def kept(portal: tuple[PortalServer, RunningAai], tmp_path_factory: pytest.TempPathFactory) -> Path:
    server, aai = portal
    device = DeviceLogin.begin(server.url)
    decide(aai, device, "allow")
    login = device.wait()
    file = tmp_path_factory.mktemp("login") / "login.json"
    login.keep(file)
    assert login.access not in repr(login) and device.device_code not in repr(device)
    return file


@pytest.fixture
def here(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDI_LOGIN_FILE", str(kept))


def gdi(*arguments: str) -> int:
    return invoke(arguments, Console(file=io.StringIO(), width=200))


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert gdi(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_without_a_login_each_command_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GDI_LOGIN_FILE", str(tmp_path / "none.json"))
    for command in (["datasets"], ["runs"], ["watch", "r-1"], ["run", WORKFLOW, "-d", "X"]):
        assert gdi(*command) == SIGNED_OUT
        assert "gdi login --portal URL" in capsys.readouterr().err
    write_private(tmp_path / "none.json", "{}").chmod(0o644)
    assert gdi("datasets") == SIGNED_OUT
    assert "may be read by others" in capsys.readouterr().err.replace("\n", " ")


def test_a_refused_sign_in_keeps_nothing(
    portal: tuple[PortalServer, RunningAai], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, aai = portal
    monkeypatch.setenv("GDI_LOGIN_FILE", str(tmp_path / "login.json"))
    device = DeviceLogin.begin(server.url)
    decide(aai, device, "deny")
    with pytest.raises(ProblemError, match="You refused the sign-in"):
        device.wait()
    with pytest.raises(ProblemError, match="answered 404"):
        DeviceLogin.begin(aai.url)
    assert not login_file().exists()


def test_a_login_is_private_and_renewed_before_it_ends(kept: Path, here: None) -> None:
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    login = stored_login()
    before = login.access
    assert login.access_token() == before, "good for long"
    login.until = time.time() + 5
    assert login.access_token() != before
    assert stored_login().access == login.access, "what was renewed is kept"
    login.refresh, login.until = "stolen", 0
    with pytest.raises(ProblemError, match="not signed in"):
        login.access_token()


def test_what_is_refused_has_its_own_exit_code(here: None, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["run", WORKFLOW, *(x for d in BOTH for x in ("-d", d))]
    assert gdi(*run) == REFUSED
    assert "You have given no consent" in capsys.readouterr().err
    assert gdi(*run, "-p", "regions=many", "--once") == USAGE
    assert gdi(*run, "-p", "regions", "--once") == USAGE
    assert gdi("run", WORKFLOW) == USAGE
    for command in ("watch", "cancel", "results"):
        assert gdi(command, "r-" + "0" * 20) == NOT_THERE
    assert gdi("workflows", "nothing-such") == NOT_THERE


def test_from_a_start_to_a_table(
    portal: tuple[PortalServer, RunningAai], here: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    world = portal[0].world
    assert [d["id"] for d in said(capsys, "datasets")] == BOTH
    assert said(capsys, "workflows", WORKFLOW)["parameters"]["properties"]["regions"]["maximum"] == 256
    options = [x for d in BOTH for x in ("-d", d)]
    assert gdi("preflight", WORKFLOW, *options, "--json") == REFUSED, "a node of this world is away"
    assert not json.loads(capsys.readouterr().out)["ready"]
    start = ("run", WORKFLOW, *options, "-p", "regions=3", "--once", "--key", "mine")
    run = said(capsys, *start)["id"]
    assert said(capsys, *start)["id"] == run, "the same key: the same run"
    (name,) = (key[1] for key in world.airflow.runs if key[1].startswith("api-"))
    world.airflow.put(name, Standing(standing="running", sentence="It runs."))

    def end() -> None:
        time.sleep(1)
        world.airflow.put(name, Standing(standing="succeeded", sentence="7 sites were released."), "success")

    ending = threading.Thread(target=end)
    ending.start()
    assert said(capsys, "watch", run)["sentence"] == "7 sites were released."
    ending.join()
    saved = said(capsys, "results", run, "--to", str(tmp_path / "out"))["saved"]
    assert (tmp_path / "out" / "answer.tsv").read_bytes() == world.airflow.files["answer.tsv"] and len(saved) == 2
    for command in ("datasets", "workflows", "grants", "runs", "results"):
        assert gdi(command, *([run] if command == "results" else [])) == 0
    (grant,) = [g["id"] for g in said(capsys, "grants")]
    assert said(capsys, "grants", "--revoke", grant)[0]["state"] == "revoked"
    with PortalClient.signed_in() as client:
        assert client.whoami() == ALICE
        assert client.frame(run).to_dicts() == [{"CHROM": 2, "POS": 1}]
        assert client.crate(run, tmp_path / "run.zip").read_bytes() == b"PK-crate"
        again = client.start(WORKFLOW, BOTH, consent_days=1)
        assert client.cancel(again.id).state in ("stopping", "stopped")
        with pytest.raises(ProblemError, match="no such file"):
            client.download(run, "no/such.tsv", tmp_path / "x")
    assert gdi("watch", again.id) == ENDED_BADLY


async def test_the_asynchronous_client_does_the_same(kept: Path) -> None:
    login = stored_login(kept)
    async with AsyncPortalClient(login.portal, login.access_token) as client:
        assert await client.whoami() == ALICE
        found = [run async for run in client.runs(most=1)]
        assert len(found) == 1
        assert (await client.wait(found[0].id)).sentence
        with pytest.raises(ProblemError):
            await client.run("r-" + "0" * 20)


def test_withheld_cells_are_null_in_both_libraries() -> None:
    content = b"SITE\tAC\tNOTE\n1:5:A:T\t\tNA\n1:6:A:T\t12\tok\n"
    polars, pandas = frame_of(content, "polars"), frame_of(content, "pandas")
    assert polars["AC"].to_list() == [None, 12] and polars["NOTE"].to_list() == ["NA", "ok"]
    assert pandas["AC"].isna().tolist() == [True, False] and pandas["NOTE"].tolist() == ["NA", "ok"]


def test_a_schedule_is_a_consent_that_starts_by_itself(
    portal: tuple[PortalServer, RunningAai], here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("schedule", WORKFLOW, "-d", BOTH[0])
    for wrong in ((), ("--every", "month", "--cron", "0 6 * * *"), ("--every", "month", "--timezone", "Mars/Base")):
        assert gdi(*asked, *wrong) == USAGE, wrong
    made = len(portal[0].world.broker.schedules)
    assert gdi(*asked, "--every", "week", "--timezone", "Europe/Helsinki", "-p", "regions=4", "--json") == 0
    (schedule,) = portal[0].world.broker.schedules[made:]
    assert schedule.cron.split()[2:4] == ["*", "*"] and schedule.timezone == "Europe/Helsinki"
    assert schedule.parameters == {"regions": 4, "datasets": [BOTH[0]]}
    assert json.loads(capsys.readouterr().out)["workflows"] == [WORKFLOW]


def test_a_shell_completes_ids_and_never_waits_or_fails(
    portal: tuple[PortalServer, RunningAai], here: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert completion.dataset_ids("EGAD") == BOTH and completion.dataset_ids("x") == []
    assert WORKFLOW in completion.workflow_names("allele")
    with PortalClient.signed_in() as client:
        run = client.start(WORKFLOW, BOTH, consent_days=1).id
        active = [grant.id for grant in client.grants() if grant.state == "active"]
    assert run in completion.run_ids(run[:5]) and completion.run_ids("g-") == []
    assert active and completion.grant_ids("") == active
    monkeypatch.setenv("GDI_LOGIN_FILE", str(tmp_path / "nobody.json"))
    assert completion.run_ids("") == [], "not signed in: nothing is offered, and nothing printed"
