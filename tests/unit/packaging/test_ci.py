"""What `.ci/run` says of its stages, with stubs in their place: minutes against a budget, tests that did not run, and
the last line.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import ci_hour
from tests.support.wheels import ROOT

REPORT = """<testsuites><testsuite>
{}
</testsuite></testsuites>"""
PASSED = '<testcase classname="tests.unit.test_x" name="test_{}" time="0.1" />'
SKIPPED = (
    """<testcase classname="tests.unit.test_x" name="test_{}"><skipped type="pytest.{}" message="{}"/></testcase>"""
)


@pytest.fixture(scope="module")
def ci() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("gdi_ci", ROOT / "packaging" / "ci.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


class Desk:
    """A run with stubs: each stage is a shell script; `lines` is what was printed."""

    def __init__(self, ci: ModuleType, scratch: Path) -> None:
        self.ci, self.scratch, self.lines, self.seconds = ci, scratch, list[str](), 0.0
        self.run = ci.CiRun(scratch, self.lines.append, lambda: self.seconds)

    def stage(
        self, *cases: str, script: str = "", minutes: float = 1, closing: str = "1 passed in 2.00s", budget: float = 10
    ) -> bool:
        if cases:
            (self.scratch / "part.xml").write_text(REPORT.format("\n".join(cases)))
        script = script or f"echo '===== {closing} ====='"
        stage = self.ci.Stage("part", ("sh", "-c", script), budget, ("part",), 50, 52)
        say = self.run.say

        def slowly(line: str) -> None:
            if "=== part" not in line:
                self.seconds += minutes * 60
            say(line)

        self.run.say = slowly
        try:
            return bool(self.run.stage(stage))
        finally:
            self.run.say = say

    def end(self) -> tuple[int, str]:
        """(exit code, last line)."""
        return self.run.end(), self.lines[-1]


@pytest.fixture
def desk(ci: ModuleType, tmp_path: Path) -> Desk:
    return Desk(ci, tmp_path)


def test_every_stage_has_its_minutes_its_budget_and_pytests_closing_line(desk: Desk) -> None:
    assert desk.stage(PASSED.format(1), minutes=4, closing="12 passed, 1 skipped in 240.01s (0:04:00)")
    assert desk.end() == (0, "every listed test ran, and passed")
    table = "\n".join(desk.lines)
    assert "part                  4.0      10\n" in table
    assert "12 passed, 1 skipped in 240.01s (0:04:00)" in table
    assert "WARNING" not in table


def test_time_alone_warns_and_fails_nothing(desk: Desk) -> None:
    assert desk.stage(PASSED.format(1), minutes=16, budget=10)
    assert desk.end()[0] == 0
    assert any("16.0      10  WARNING: over 1.5 times of its budget" in line for line in desk.lines)


def test_a_stage_that_fails_fails_the_run(desk: Desk) -> None:
    assert not desk.stage(PASSED.format(1), script="echo gone wrong; exit 3")
    assert "gone wrong" in desk.lines
    assert desk.end() == (1, "CI FAILED: sh -c failed with exit code 3")


def test_a_stage_without_a_test_fails_the_run(desk: Desk) -> None:
    assert not desk.stage(SKIPPED.format(1, "skip", "set GDI_FUNNEL=/path/to/funnel"))
    assert desk.end() == (1, "CI FAILED: part ran no test")


def test_a_stage_without_a_report_fails_the_run(desk: Desk) -> None:
    assert not desk.stage(closing="no tests ran in 0.01s")
    assert desk.end() == (1, "CI FAILED: part left no report: it ran no test")


def test_a_listed_test_that_did_not_run_fails_the_run_and_is_named(desk: Desk) -> None:
    assert desk.stage(PASSED.format(1), SKIPPED.format(2, "skip", "no sandboxes here: bwrap is missing"))
    code, last = desk.end()
    assert (code, last) == (1, "CI FAILED: 1 listed tests did not run: tests/unit/test_x.py::test_2")
    assert "did not run: tests/unit/test_x.py::test_2: no sandboxes here: bwrap is missing" in desk.lines


def test_known_absences_and_expected_failures_do_not(desk: Desk) -> None:
    known = SKIPPED.format(2, "skip", "set GDI_FUNNEL=/path/to/funnel")
    assert desk.stage(PASSED.format(1), known, SKIPPED.format(3, "xfail", "upstream"))
    assert desk.end()[0] == 0


def test_where_the_hour_ended_the_last_line_says_how_many_did_not_run_and_which(desk: Desk) -> None:
    assert desk.stage(*(SKIPPED.format(n, "skip", ci_hour.LATE) for n in (1, 2)))
    names = "tests/unit/test_x.py::test_1, tests/unit/test_x.py::test_2"
    assert desk.end() == (0, f"2 TESTS DID NOT RUN, as {ci_hour.LATE}: {names}")


COLLECT = (
    "echo tests/unit/test_x.py::test_1 > $GDI_CI_COLLECTED; echo tests/unit/test_x.py::test_2 >> $GDI_CI_COLLECTED;"
)
HANGS = "trap '' INT; echo begun; sleep 600"


@pytest.mark.parametrize(
    ("minute", "script"),
    [(53.2, "echo begun; exec sleep 600"), (54.6, HANGS)],
    ids=["is interrupted", "is killed where it does not end"],
)
def test_what_outlasts_its_last_minute_is_ended_and_did_not_run(desk: Desk, minute: float, script: str) -> None:
    began = time.monotonic()
    assert desk.stage(PASSED.format(1), script=COLLECT + script, minutes=minute)
    assert time.monotonic() - began < 60
    assert desk.end() == (0, f"1 TESTS DID NOT RUN, as {ci_hour.LATE}: tests/unit/test_x.py::test_2")


def test_what_is_killed_before_it_left_a_report_names_all_that_there_was(desk: Desk) -> None:
    assert desk.stage(script=COLLECT + HANGS, minutes=55)
    names = "tests/unit/test_x.py::test_1, tests/unit/test_x.py::test_2"
    assert desk.end() == (0, f"2 TESTS DID NOT RUN, as {ci_hour.LATE}: {names}")


@pytest.mark.parametrize("case", [PASSED.format(1), ""], ids=["by its words", "by its words alone"])
def test_a_file_that_failed_before_its_stage_was_ended_fails_the_run(desk: Desk, case: str) -> None:
    script = f"{COLLECT} echo 'tests/unit/test_x.py .F'; sleep 600"
    assert not desk.stage(*([case] if case else []), script=script, minutes=55)
    assert desk.end()[0] == 1 and desk.lines[-1].startswith("CI FAILED: sh -c failed with exit code")


def test_a_failure_that_only_the_report_knows_fails_the_run(desk: Desk) -> None:
    failed = PASSED.format(1).replace(" />", '><failure message="no"/></testcase>')
    assert not desk.stage(failed, script=COLLECT + HANGS, minutes=55)
    assert desk.end() == (1, "CI FAILED: tests/unit/test_x.py::test_1 failed")


def test_what_still_holds_a_stages_output_is_not_waited_for(desk: Desk) -> None:
    began = time.monotonic()
    assert desk.stage(PASSED.format(1), script="setsid sleep 60 & echo '===== 1 passed in 2.00s ====='")
    assert time.monotonic() - began < 30 and desk.end()[0] == 0


def test_a_file_that_fails_fails_the_run_and_what_the_clock_left_out_is_named_too(desk: Desk) -> None:
    assert not desk.stage(SKIPPED.format(2, "skip", ci_hour.LATE), script="exit 1")
    assert desk.end() == (1, "CI FAILED: sh -c failed with exit code 1")
    assert f"1 TESTS DID NOT RUN, as {ci_hour.LATE}: tests/unit/test_x.py::test_2" in desk.lines


HOUR_TESTS = """
import os, time, pytest
from tests.support import ci_hour

@pytest.fixture(scope="module")
def world(tmp_path_factory):
    yield
    print("the world is gone")
    open(os.environ["GONE"], "w").close()

def test_1(world):
    pass

def test_2(world):
    ci_hour._hour.watch(time.time() + 0.5)  # from here on, however slow the machine is
    try:
        while True:
            try:
                time.sleep(60)
            except Exception:
                pass
    finally:
        open(os.environ["CLEANED"], "w").close()
        raise RuntimeError("what a half-made thing does when it is taken down")

def test_3(world):
    raise AssertionError("this is not to begin")
"""


def in_the_hour(folder: Path, **moments: str) -> str:
    """What pytest says of HOUR_TESTS, which must not fail."""
    (folder / "test_hour.py").write_text(HOUR_TESTS)
    (folder / "conftest.py").write_text("from tests.support.ci_hour import *  # noqa\n")
    marks = {name: str(folder / name.lower()) for name in ("GONE", "CLEANED", ci_hour.COLLECTED)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "-c", "/dev/null", "--rootdir=."]
    done = subprocess.run(
        [*command, "--junitxml=out.xml", "test_hour.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **moments, **marks},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0 and "In the teardown" not in done.stdout, done.stdout + done.stderr
    return done.stdout


def test_the_test_that_runs_when_the_hour_ends_is_ended_torn_down_and_skipped(tmp_path: Path) -> None:
    said = in_the_hour(tmp_path, **{ci_hour.END_BY: str(time.time() + 3600)})
    assert "1 passed, 2 skipped" in said
    assert (tmp_path / "gone").exists() and (tmp_path / "cleaned").exists()
    assert (tmp_path / "out.xml").read_text().count(ci_hour.LATE) >= 2
    ids = (tmp_path / ci_hour.COLLECTED.lower()).read_text().split()
    assert ids == [f"test_hour.py::test_{n}" for n in (1, 2, 3)]


@pytest.mark.parametrize("name", [ci_hour.BEGIN_BY, ci_hour.END_BY])
def test_after_the_last_moment_none_begins_and_none_fails(tmp_path: Path, name: str) -> None:
    assert "3 skipped" in in_the_hour(tmp_path, **{name: str(time.time() - 1)})
    assert not (tmp_path / "gone").exists()


def test_tests_are_told_until_when_they_may_begin(desk: Desk, ci: ModuleType) -> None:
    desk.stage(PASSED.format(1), script="echo moment $GDI_CI_BEGIN_BY $GDI_CI_END_BY", minutes=0)
    for name in ("BEGIN_BY", "END_BY", "COLLECTED", "LATE"):
        assert getattr(ci_hour, name) == getattr(ci, name)
    (line,) = (line for line in desk.lines if line.startswith("moment "))
    begin, end = (float(word) - ci.time.time() for word in line.split()[1:])
    assert 45 * 60 < begin <= 50 * 60 < end <= 52 * 60


@pytest.mark.parametrize(
    ("code", "collected", "ended", "last"),
    [
        (None, ["t.py::a", "t.py::b"], 0, "2 TESTS DID NOT RUN, as no time was left for it: t.py::a, t.py::b"),
        (None, [], 0, None),
        (3, ["t.py::a"], 1, "CI FAILED: 1 listed tests did not run: t.py::a"),
        (1, [], 1, "CI FAILED: Kubernetes or its images could not be built (exit code 1); the lines above say why"),
    ],
    ids=["still building", "still building, and nothing can be listed", "cannot", "broken"],
)
def test_without_kubernetes_its_tests_are_named_last(
    desk: Desk,
    ci: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    code: int | None,
    collected: list[str],
    ended: int,
    last: str | None,
) -> None:
    class Building:
        def poll(self) -> int | None:
            return code

    desk.seconds = ci.BUILT_BY * 60.0
    (tmp_path / "log").write_text("what was printed\n")
    monkeypatch.setattr(ci, "listed", lambda stage: collected)
    ci.kubernetes(desk.run, Building(), tmp_path / "log")
    left = ci.FILES.split()
    assert desk.end() == (ended, last or f"{len(left)} TESTS DID NOT RUN, as {ci.LATE}: {', '.join(left)}")
    assert any("were not built by minute 62" in line for line in desk.lines) == (code is None)


def test_the_budgets_fit_into_the_hour_and_leave_nothing_to_chance(ci: ModuleType) -> None:
    stages = [ci.LINT, *ci.STAGES, ci.PODS]
    assert sum(stage.budget for stage in stages) < ci.LIMIT
    assert all((stage.until > 0) == bool(stage.reports) and stage.until < stage.end for stage in stages[1:])
    assert max(stage.end for stage in stages) + ci.KILLED < 72 and ci.PODS.until > ci.BUILT_BY
    makefile = (ROOT / "Makefile").read_text()
    for stage in stages:
        assert f"\n{stage.command[1]}:" in makefile
        assert all(f"\n{report}:" in makefile for report in stage.reports)
    for word in ci.SYSTEM.split():
        assert word.startswith("--") or (ROOT / word.partition("::")[0]).is_file(), word


def test_every_file_of_kubernetes_has_its_place_in_the_order(ci: ModuleType) -> None:
    there = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "kubernetes").glob("test_*.py")}
    assert sorted([*ci.IN_ORDER, *ci.NIGHTLY]) == sorted(there)
    assert ci.PODS.command[-1].split()[0] == f"ARGS=tests/kubernetes/test_{ci.IN_ORDER[0]}.py", (
        "paths first: make knows them so"
    )
