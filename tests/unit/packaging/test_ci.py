"""What `.ci/run` says of its stages, with stubs in their place: minutes against a budget, tests that did not run, and
the last line.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests import conftest
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
        stage = self.ci.Stage("part", ("sh", "-c", script), budget, ("part",), 50)
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
    assert desk.stage(*(SKIPPED.format(n, "skip", conftest.LATE) for n in (1, 2)))
    names = "tests/unit/test_x.py::test_1, tests/unit/test_x.py::test_2"
    assert desk.end() == (0, f"2 TESTS DID NOT RUN, as {conftest.LATE}: {names}")


def test_tests_are_told_until_when_they_may_begin(desk: Desk, ci: ModuleType) -> None:
    desk.stage(PASSED.format(1), script="echo moment $GDI_CI_BEGIN_BY", minutes=0)
    assert (conftest.BEGIN_BY, conftest.LATE) == (ci.BEGIN_BY, ci.LATE)
    (line,) = (line for line in desk.lines if line.startswith("moment "))
    assert 45 * 60 < float(line.split()[1]) - ci.time.time() <= 50 * 60


@pytest.mark.parametrize(
    ("code", "collected", "ended", "last"),
    [
        (None, ["t.py::a", "t.py::b"], 0, "2 TESTS DID NOT RUN, as no time was left for it: t.py::a, t.py::b"),
        (3, ["t.py::a"], 1, "CI FAILED: 1 listed tests did not run: t.py::a"),
        (1, [], 1, "CI FAILED: Kubernetes or its images could not be built (exit code 1); the lines above say why"),
    ],
    ids=["still building", "cannot", "broken"],
)
def test_without_kubernetes_its_tests_are_named_last(
    desk: Desk,
    ci: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    code: int | None,
    collected: list[str],
    ended: int,
    last: str,
) -> None:
    class Building:
        def poll(self) -> int | None:
            return code

    desk.seconds = ci.BUILT_BY * 60.0
    (tmp_path / "log").write_text("what was printed\n")
    monkeypatch.setattr(ci, "listed", lambda stage: collected)
    ci.kubernetes(desk.run, Building(), tmp_path / "log")
    assert desk.end() == (ended, last)


def test_the_budgets_fit_into_the_hour_and_leave_nothing_to_chance(ci: ModuleType) -> None:
    stages = [ci.LINT, *ci.STAGES, ci.PODS]
    assert sum(stage.budget for stage in stages) < ci.LIMIT
    assert all(stage.until < ci.LIMIT and (stage.until > 0) == bool(stage.reports) for stage in stages)
    makefile = (ROOT / "Makefile").read_text()
    for stage in stages:
        assert f"\n{stage.command[1]}:" in makefile
        assert all(f"\n{report}:" in makefile for report in stage.reports)
    for word in (" ".join((ci.SYSTEM, ci.WITHOUT))).split():
        assert word.startswith("--") or (ROOT / word.partition("::")[0]).is_file(), word


def test_every_file_of_kubernetes_has_its_place_in_the_order(ci: ModuleType) -> None:
    there = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "kubernetes").glob("test_*.py")}
    assert sorted(ci.IN_ORDER) == sorted(there)
    assert ci.PODS.command[-1].split()[0] == "ARGS=tests/kubernetes/test_cluster.py", "paths first: make knows them so"
