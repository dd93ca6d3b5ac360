"""The Kubernetes launcher without a cluster: what a run may ask for, a pod's log, since when a pod waits, what is
tidied; a user's stop that insists.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gdi.kit.problem import ProblemError
from gdi.kit.settings import SettingsError
from gdi_operators.launchers import LauncherError, get_launcher
from gdi_operators.launchers import kubernetes_launcher as launching
from gdi_operators.launchers import kubernetes_manifest as manifest
from gdi_operators.launchers.kubernetes_api import judge
from gdi_operators.launchers.kubernetes_config import PodConfig, Wish
from gdi_operators.launchers.kubernetes_launcher import KubernetesLauncher
from gdi_operators.launchers.kubernetes_log import moment, new_lines, stamp_of
from gdi_operators.launchers.kubernetes_status import status_of
from gdi_operators.settings import settings
from gdi_operators.triggers import snakemake as trigger
from tests.support.clock import virtual_time

NAME = "r-0123456789abcdef0123-node-a-1-1"


def config(**more: Any) -> PodConfig:
    return PodConfig.model_validate({"image": "gdi-snakemake:1", **more})


def launcher(**more: Any) -> KubernetesLauncher:
    return KubernetesLauncher(config(**more), workflows=lambda: Path("/nonexistent"))


# --- what a run may ask for ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"memory": "0"}, r"pod\.memory: 0 is less than the 64Mi that a pod needs"),
        ({"memory": "63Mi"}, "63Mi is less than the 64Mi"),
        ({"memory": "100m"}, r"pod\.memory: 100m is less"),
        ({"cpu": "0"}, r"pod\.cpu: 0 is less than the 1m"),
        ({"cpu": "0.0m"}, r"pod\.cpu"),
        ({"disk": "0"}, r"pod\.disk: 0 is less"),
        ({"disk": "100m"}, r"pod\.disk: 100m is less"),
        ({"memory": "5Gi"}, "more than the 4Gi"),
    ],
)
def test_nothing_is_less_than_a_pod_needs_as_a_limit_of_none_is_no_limit(asked: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        config().wish("probe", Wish.model_validate(asked))
    assert config().wish("probe", Wish(memory="64Mi", cpu="1m", disk="1Mi")).memory == "64Mi"


def test_a_run_adds_to_the_operators_selector_and_tolerations_and_takes_none_away() -> None:
    pool, urgent = {"key": "pool", "value": "gdi"}, {"key": "urgent", "operator": "Exists"}
    allowed = {"node_selectors": {"disk": ["ssd"], "pool": ["other"]}, "tolerations": [urgent, pool]}
    found = config(defaults={"node_selector": {"pool": "gdi"}, "tolerations": [pool]}, limits=allowed)

    def made(**asked: Any) -> tuple[dict[str, str] | None, list[str]]:
        wish = found.wish("probe", Wish.model_validate(asked))
        return wish.node_selector, [t.key for t in wish.tolerations or ()]

    assert made(node_selector={}, tolerations=[]) == made() == ({"pool": "gdi"}, ["pool"])
    assert made(node_selector={"disk": "ssd"}, tolerations=[urgent, pool]) == (
        {"disk": "ssd", "pool": "gdi"},
        ["pool", "urgent"],
    )
    assert made(node_selector={"pool": "other"})[0] == {"pool": "gdi"}
    bare = config(limits=allowed)
    assert (
        bare.wish("probe", Wish(node_selector={"disk": "ssd"})).node_selector == {"disk": "ssd"}
        and bare.wish("probe", Wish()).node_selector is None
    )
    workflows = {"probe": {"node_selector": {"pool": "large"}}}  # an operator's own word replaces theirs of before
    assert config(defaults={"node_selector": {"disk": "hdd"}}, workflows=workflows).wish(
        "probe", None
    ).node_selector == {"pool": "large"}


# --- a pod's log --------------------------------------------------------------------------------


def test_only_a_newline_ends_a_line_and_only_a_time_is_one() -> None:
    body = (
        b"2026-01-01T00:00:00.1Z 10%\r50%\x0b\x1c\xe2\x80\xa8x\r\n2026-01-01T00:00:00.12Z next\nrpc error: no such"
        b" container\n2026-13-01T00:00:00Z never\n"
    )
    new, known = new_lines(body + b"2026-01-01T00:00:01Z half", "", ended=False)
    assert (
        new == [("2026-01-01T00:00:00.1Z", "10%\r50%\x0b\x1c\u2028x"), ("2026-01-01T00:00:00.12Z", "next")]
        and known == 2
    )
    assert [text for _, text in new_lines(body, "2026-01-01T00:00:00.100000000Z", ended=False)[0]] == ["next"]
    assert new_lines(b"2026-01-01T00:00:01Z half", "", ended=True)[0] == [("2026-01-01T00:00:01Z", "half")]
    assert (
        moment("2026-01-01T02:00:00.5+02:00") == moment("2026-01-01T00:00:00.500Z") > moment("2026-01-01T00:00:00.49Z")
    )
    assert moment("50%") == moment("") == (0, 0) and moment(stamp_of(1e9))[0] == 10**9


class Log:
    """A kubelet with one container's log; `asked` is what each look wanted of it."""

    def __init__(self) -> None:
        self.body = b""
        self.asked: list[dict[str, Any]] = []

    read_namespaced_pod_log = None

    async def raw(self, _what: str, _method: Any, **asked: Any) -> tuple[int, bytes]:
        self.asked.append(asked)
        body = (
            self.body
            if "tail_lines" not in asked
            else b"".join(self.body.splitlines(keepends=True)[-asked["tail_lines"] :])
        )
        return 200, body[: asked["limit_bytes"]]


async def held(made: KubernetesLauncher, monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()

    async def core(_name: str) -> tuple[Any, Any]:
        return log, log

    monkeypatch.setattr(made, "_core", core)
    return log


async def test_a_log_goes_on_after_a_carriage_return(monkeypatch: pytest.MonkeyPatch) -> None:
    made = launcher(logs=True)
    log = await held(made, monkeypatch)
    log.body = b"2026-01-01T00:00:00.1Z 10%\r50%\n"
    lines, since = await made.alog(NAME, "")
    log.body += b"2026-01-01T00:00:00.2Z an error\n"
    again, since = await made.alog(NAME, since)
    assert (lines, again, since) == (["10%\r50%"], ["an error"], "2026-01-01T00:00:00.2Z")
    assert "since_seconds" not in log.asked[0] and log.asked[1]["since_seconds"] > 0


async def test_a_torrent_is_left_out_and_said_so_and_the_end_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "MAX_LOG", 2000)
    made = launcher(logs=True)
    log = await held(made, monkeypatch)
    log.body = b"".join(b"2026-01-01T00:00:00.%09dZ line %d\n" % (n, n) for n in range(1000))
    first, since = await made.alog(NAME, "")
    assert first[0] == "line 0" and len(first) > 10
    lines, moved = await made.alog(NAME, since)  # the same bytes again: nothing new in a look that is full
    assert lines == [launching.LEFT_OUT] and moment(moved)[0] > time.time() - 60
    log.body += b"%s and then\n" % stamp_of(time.time() + 5).encode()
    log.body += b"%s the error" % stamp_of(time.time() + 6).encode()
    assert (await made.alog(NAME, moved, ended=True))[0] == ["and then", "the error"]
    late, _ = await made.alog(NAME, since, ended=True)
    assert late[0] == launching.LEFT_OUT and late[-1] == "the error" and len(late) == launching.TAIL_LINES + 1
    log.body = b"2026-01-01T00:00:00.1Z all of it\n"
    assert (await made.alog(NAME, "", ended=True))[0] == ["all of it"]


# --- since when a pod waits, and for what -------------------------------------------------------


def at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def a_pod(
    name: str = NAME,
    *,
    made: float,
    phase: str = "Pending",
    gate: bool = False,
    let_go: float | None = None,
    **status: Any,
) -> dict[str, Any]:
    annotations = {} if let_go is None else {manifest.LET_GO: at(let_go)}
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-of-{name}",
            "creationTimestamp": at(made),
            "annotations": annotations,
            "resourceVersion": "7",
        },
        "spec": {"schedulingGates": [{"name": manifest.GATE}] if gate else []},
        "status": {"phase": phase, **status},
    }


def test_a_pod_that_was_let_go_late_has_its_whole_time_to_start() -> None:
    now = 1_800_000_000.0
    scheduled = {
        "type": "PodScheduled",
        "status": "False",
        "lastTransitionTime": at(now - 5000),
        "message": "0/3 nodes are available",
    }
    for reason, said in (("SchedulingGated", "has not looked"), ("Unschedulable", "no machine takes it: 0/3 nodes")):
        for seconds, blocked in ((100, False), (400, True)):
            pod = a_pod(made=now - 5000, let_go=now - seconds, conditions=[{**scheduled, "reason": reason}])
            status = status_of(pod, start_timeout=300, now=now)
            assert status.blocked is blocked and said in status.reason and status.state == "running"
    older = a_pod(
        made=now - 400, conditions=[{**scheduled, "lastTransitionTime": at(now - 350), "reason": "Unschedulable"}]
    )
    assert status_of(older, start_timeout=300, now=now).blocked, "one that was let go before this was written"
    pulled = a_pod(
        made=now - 5000,
        let_go=now - 400,
        conditions=[{"type": "PodScheduled", "status": "True", "lastTransitionTime": at(now - 100)}],
    )
    assert not status_of(pulled, start_timeout=300, now=now).blocked


# --- what is tidied -----------------------------------------------------------------------------


class Pods:
    """An API that lists `pods` and notes what is deleted."""

    def __init__(self, *pods: dict[str, Any]) -> None:
        self.pods, self.deleted = pods, dict[str, tuple[int, str | None]]()

    def list_pods(self, _selector: str, field_selector: str) -> list[dict[str, Any]]:
        return [
            p for p in self.pods if (p["status"]["phase"] == "Pending") is (field_selector == "status.phase=Pending")
        ]

    def delete_pod(self, name: str, uid: str, grace: int, *, version: str | None = None) -> None:
        assert uid == f"uid-of-{name}"
        self.deleted[name] = grace, version

    def create_pod(self, _body: Any) -> dict[str, Any]:
        said = (
            b'{"message": "pods \\"x\\" is forbidden: exceeded quota: runs, requested: pods=1, used: pods=9, limited:'
            b' pods=9"}'
        )
        return judge(403, said, "creating pod x")


def test_a_pod_that_nobody_will_let_go_is_removed_after_an_hour_and_nobody_elses() -> None:
    now = time.time()
    unreachable = a_pod("unreachable", made=now - 90_000, let_go=now - 90_000)  # two of it could run
    unreachable["metadata"]["deletionTimestamp"] = at(now - 90_000)
    pods = Pods(
        a_pod("forgotten", made=now - 4000, gate=True),
        a_pod("being-made", made=now - 3000, gate=True),
        a_pod("mine", made=now - 9000, gate=True),
        a_pod("waiting", made=now - 9000, let_go=now - 8000),
        unreachable,
        a_pod("old", made=now - 90_000, phase="Failed"),
        a_pod("ended", made=now - 9000, phase="Failed"),
    )
    launcher()._tidy(pods, "mine")  # type: ignore[arg-type]
    assert pods.deleted == {"forgotten": (0, "7"), "old": (0, "7")}, "and only as it was when it was looked at"


def test_pods_that_nobody_will_let_go_do_not_fill_the_quota_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    made, pods = launcher(), Pods(a_pod("forgotten", made=time.time() - 4000, gate=True))
    monkeypatch.setattr(made, "_api", lambda _: pods)
    monkeypatch.setattr(manifest, "workflow_files", lambda *_: {})
    monkeypatch.setattr(manifest, "pod", lambda *_: {})
    with pytest.raises(ProblemError, match="exceeded quota"):
        made.create(type("Spec", (), {"name": NAME})())
    assert set(pods.deleted) == {"forgotten"}


# --- a user's stop, and a launcher without a catalogue ------------------------------------------


class Away:
    """A launcher whose `astop` fails as often as said, or never answers."""

    def __init__(self, *errors: Exception, hangs: bool = False) -> None:
        self.errors, self.hangs, self.tries, self.closed = list(errors), hangs, 0, False

    async def astop(self, name: str, *, mode: str, grace: float) -> None:
        assert (name, mode, grace) == (NAME, "cancel", 60)
        self.tries += 1
        if self.hangs:
            await asyncio.sleep(60)
        if self.errors:
            raise self.errors.pop(0)

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("make", "tries", "told"),
    [
        (lambda: Away(*[ProblemError(503, "cluster-away", "x")] * 2), 3, False),
        (lambda: Away(*[ProblemError(503, "cluster-away", "x")] * 100), None, True),
        (lambda: Away(hangs=True), None, True),
        (lambda: Away(LauncherError("no")), 1, True),
    ],
)
@virtual_time
async def test_a_users_stop_is_tried_again_while_airflow_waits_for_it(
    make: Callable[[], Away], tries: int | None, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = make()
    assert trigger.STOP_PATIENCE + trigger.STOP_PAUSE < 30 and trigger.STOP_TRY <= 8
    monkeypatch.setattr(trigger, "get_launcher", lambda _: away)
    for name, seconds in (("STOP_PATIENCE", 0.6), ("STOP_TRY", 0.2), ("STOP_PAUSE", 0.02)):
        monkeypatch.setattr(trigger, name, seconds)
    made, begun = trigger.SnakemakeTrigger(run="r-1", attempt=1, node="node-a", pod=NAME), time.monotonic()
    said: list[str] = []
    log = SimpleNamespace(warning=lambda *_: None, error=lambda text, *values: said.append(text % values))
    monkeypatch.setattr(trigger.SnakemakeTrigger, "log", log)
    await made.on_kill()
    assert away.closed and time.monotonic() - begun < 5 and (away.tries == tries if tries else away.tries >= 2)
    assert bool(said) is told and (not told or "close" in said[0])


def test_who_watches_or_stops_a_pod_needs_no_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pods.yaml"
    file.write_text("image: gdi-snakemake:1\n")
    monkeypatch.setenv("GDI_POD_CONFIG", str(file))
    monkeypatch.setenv("GDI_WORKFLOWS", "bundle:nonesuch")
    settings.cache_clear()
    try:
        made = get_launcher("kubernetes")
        with pytest.raises(SettingsError, match="nonesuch"):
            made.create(type("Spec", (), {"name": NAME})())
    finally:
        settings.cache_clear()
