"""Pods of Kubernetes without a cluster: a pod's log as its trigger follows it, what is tidied; a user's stop that
insists.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gdi.kit.problem import ProblemError
from gdi.kit.settings import SettingsError
from gdi.pods import log as pod_log
from gdi.pods.answers import judge
from gdi.pods.config import PodConfig
from gdi.pods.log import moment
from gdi.pods.times import stamp_of
from gdi_operators.kubernetes.cluster_pods import ClusterPods
from gdi_operators.kubernetes.pod_watch import PodWatch
from gdi_operators.launchers import LauncherError, get_launcher
from gdi_operators.settings import settings
from gdi_operators.triggers import snakemake as trigger
from gdi_operators.triggers.snakemake_pod import SnakemakePodTrigger
from tests.support.clock import virtual_time
from tests.unit.pods.making import NAME, a_pod, at


def config(**more: Any) -> PodConfig:
    return PodConfig.model_validate({"image": "gdi-snakemake:1", **more})


def watch(log: Any) -> PodWatch:
    return PodWatch(log, config(logs=True), "uid")


# --- a pod's log ---------------------------------------------------------------------------------


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


def held(monkeypatch: pytest.MonkeyPatch) -> tuple[PodWatch, Log]:
    log = Log()

    async def core(_: PodWatch) -> Log:
        return log

    monkeypatch.setattr(PodWatch, "core", core)
    return watch(log), log


async def test_a_log_goes_on_after_a_carriage_return(monkeypatch: pytest.MonkeyPatch) -> None:
    made, log = held(monkeypatch)
    log.body = b"2026-01-01T00:00:00.1Z 10%\r50%\n"
    lines, since = await made.alog(NAME, "")
    log.body += b"2026-01-01T00:00:00.2Z an error\n"
    again, since = await made.alog(NAME, since)
    assert (lines, again, since) == (["10%\r50%"], ["an error"], "2026-01-01T00:00:00.2Z")
    assert "since_seconds" not in log.asked[0] and log.asked[1]["since_seconds"] > 0


async def test_a_torrent_is_left_out_and_said_so_and_the_end_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_log, "MAX_LOG", 2000)
    made, log = held(monkeypatch)
    log.body = b"".join(b"2026-01-01T00:00:00.%09dZ line %d\n" % (n, n) for n in range(1000))
    first, since = await made.alog(NAME, "")
    assert first[0] == "line 0" and len(first) > 10
    lines, moved = await made.alog(NAME, since)  # the same bytes again: nothing new in a look that is full
    assert lines == [pod_log.LEFT_OUT] and moment(moved)[0] > time.time() - 60
    log.body += b"%s and then\n" % stamp_of(time.time() + 5).encode()
    log.body += b"%s the error" % stamp_of(time.time() + 6).encode()
    assert (await made.alog(NAME, moved, ended=True))[0] == ["and then", "the error"]
    late, _ = await made.alog(NAME, since, ended=True)
    assert late[0] == pod_log.LEFT_OUT and late[-1] == "the error" and len(late) == pod_log.TAIL_LINES + 1
    log.body = b"2026-01-01T00:00:00.1Z all of it\n"
    assert (await made.alog(NAME, "", ended=True))[0] == ["all of it"]


# --- what is tidied -----------------------------------------------------------------------------


class Pods:
    """An API that lists `pods` and notes what is deleted."""

    def __init__(self, *pods: dict[str, Any]) -> None:
        self.pods, self.deleted = pods, dict[str, tuple[int, str | None]]()

    def list_pods(self, _selector: str, field_selector: str) -> list[dict[str, Any]]:
        return [
            p for p in self.pods if (p["status"]["phase"] == "Pending") is (field_selector == "status.phase=Pending")
        ]

    def delete_pod(self, name: str, body: dict[str, Any]) -> None:
        assert body["preconditions"]["uid"] == f"uid-of-{name}"
        self.deleted[name] = body["gracePeriodSeconds"], body["preconditions"].get("resourceVersion")

    def create_pod(self, _body: Any) -> dict[str, Any]:
        said = (
            b'{"kind": "Status", "message": "pods \\"x\\" is forbidden: exceeded quota: runs, requested: pods=1,'
            b' used: pods=9, limited: pods=9"}'
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
    ClusterPods(pods, config()).tidy("mine")  # type: ignore[arg-type]
    assert pods.deleted == {"forgotten": (0, "7"), "old": (0, "7")}, "and only as it was when it was looked at"


def test_pods_that_nobody_will_let_go_do_not_fill_the_quota_for_ever() -> None:
    pods = Pods(a_pod("forgotten", made=time.time() - 4000, gate=True))
    with pytest.raises(ProblemError, match="exceeded quota"):
        ClusterPods(pods, config()).take({"metadata": {"name": NAME}})  # type: ignore[arg-type]
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
        made = SnakemakePodTrigger(
            run="r-1",
            attempt=1,
            node="node-a",
            pod=NAME,
            namespace="x",
            kubernetes_conn_id=None,
            uid="u",
            deadline=time.time() + 60,
            allowed=60,
        )
        assert isinstance(made._watch(), PodWatch)
        with pytest.raises(SettingsError, match="nonesuch"):
            settings().need("workflows")
        with pytest.raises(SettingsError, match="SnakemakePodOperator"):
            get_launcher("kubernetes")
    finally:
        settings.cache_clear()
