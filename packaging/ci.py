"""What `.ci/run` (`make ci`) does: lint, every test that fits, the demo, Kubernetes; under 75 minutes on two cores with
nothing built. Standard library only.

At the end stands a table: minutes of each stage beside its budget (1.5 times of it is a warning, time alone fails
nothing) and pytest's own closing lines. A stage that fails, that ran no test, or whose tests were skipped for a reason
that is not in MAY_SKIP fails the run. Only the clock may leave tests out: none begins after a stage's minute `until`,
one that still runs at its minute `end` is ended (tests/conftest.py does both), and a stage that outlasts that is
interrupted, then killed. The very last line says how many did not run and which. What has no place here at all is
`make nightly-ROOM` (docs/status.md).
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 75  # minutes for all of it
BUILT_BY = 62  # minutes: Kubernetes and its images are waited for until then
WARN = 1.5  # times of a stage's budget
# Read by tests/conftest.py. A test that would begin after the first moment (Unix time), or that still runs at the
# second, is skipped with LATE; which tests there are is written into the file COLLECTED.
BEGIN_BY, END_BY, COLLECTED = "GDI_CI_BEGIN_BY", "GDI_CI_END_BY", "GDI_CI_COLLECTED"
LATE = "no time was left for it"
INTERRUPTED, KILLED = 1.0, 2.5  # minutes after a stage's end, for one that does not end by itself
# Reasons for which a test may be absent from CI, and why that is right. Every other skip fails the run.
MAY_SKIP = {
    r"set GDI_FUNNEL": "a real Funnel is in no package registry; the contract's tests run over the stand-in",
    r"conda is not installed": "the task image has no conda either",
    r"an engine ends its own containers": "a detail of bubblewrap, skipped where podman or docker makes sandboxes",
    r"kernel does not count root's processes": "a limit that the kernel does not apply to root",
    r"only root can make a folder": "needs root, which a developer's machine may not be",
}
FAILING = re.compile(r"^tests/\S+\.py\S* [.sxX]*[FE]|^(?:FAILED|ERROR) tests/")  # what pytest says while it runs
CLOSING = re.compile(r"^=+ (.*\b(?:passed|failed|errors?|skipped|deselected|no tests ran)\b.* in [\d.]+s.*?) =+$")
# Kubernetes' tests by their worth, the pods of runs first: what comes last is what the clock leaves out. Each was seen
# green (docs/status.md has the dates); the others are of `make nightly-kubernetes`.
IN_ORDER = ["pod_operator", "cluster", "launcher", "broker", "portal", "policies", "charts", "chart_values"]
IN_ORDER += ["own_node_chart", "pod_operator_airflow", "analysis"]
NIGHTLY = ["own_node", "install", "task_pods", "images", "funnel", "executor"]


@dataclass(frozen=True)
class Stage:
    """One command with its budget in minutes. `reports`: the JUnit reports that its tests leave; `until`: the minute of
    the run after which none of its tests begins; `end`: the minute at which what still runs is ended.
    """

    name: str
    command: tuple[str, ...]
    budget: float
    reports: tuple[str, ...] = ()
    until: float = 0
    end: float = 0


@dataclass
class StageOutcome:
    """How a stage ended. `code` is its exit code, `absent` are {test: reason} of those that were not to be skipped,
    `cut`: it was interrupted or killed, as its time was over; `failing`: it said before that a test had failed.
    """

    stage: Stage
    code: int = 0
    minutes: float = 0
    closing: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)
    trouble: str = ""
    cut: bool = False
    failing: bool = False

    @property
    def slow(self) -> bool:
        return self.minutes > WARN * self.stage.budget


def nightly(*files: str) -> str:  # pytest's arguments that leave files or tests to a nightly target
    return " ".join(f"{'--deselect' if '::' in name else '--ignore'} {name}" for name in files)


SYSTEM = nightly(
    *(f"tests/system/test_{name}.py" for name in ("sandbox_engines", "executors", "no_shared_disk", "demo"))
)
LINT = Stage("lint", ("make", "lint"), 4)
STAGES = (
    Stage("test", ("make", "test"), 17, ("test-parts", "test-federation"), 58, 64),
    Stage("test-long", ("make", "test-long"), 15, ("test-long",), 58, 64),
    Stage("test-system", ("make", "test-system", f"ARGS={SYSTEM}"), 18, ("test-system",), 58, 64),
    Stage("demo", ("make", "demo", "ARGS=--exit"), 3, end=68),
)
FILES = " ".join(f"tests/kubernetes/test_{name}.py" for name in IN_ORDER)
PODS = Stage("test-kubernetes", ("make", "test-kubernetes", f"ARGS={FILES}"), 15, ("test-kubernetes",), 66, 68.5)
PREPARE = (".venv/bin/python", "-m", "tests.kubernetes.prepare", "--idle")
CANNOT = 3  # its exit code where this machine can have no Kubernetes


class CiRun:
    """One run of CI. `say` prints a line; `clock` is in seconds."""

    def __init__(
        self, scratch: Path, say: Callable[[str], None] = print, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.scratch, self.say, self.clock = scratch, say, clock
        self.started = clock()
        self.outcomes: list[StageOutcome] = []

    def left_until(self, minute: float) -> float:
        """Seconds until a minute of this run."""
        return self.started + minute * 60 - self.clock()

    def stage(self, stage: Stage) -> bool:
        """Runs it, its output passed on; whether the run may go on."""
        self.say(f"\n=== {stage.name} (minute {(self.clock() - self.started) / 60:.0f})")
        outcome = StageOutcome(stage)
        self.outcomes.append(outcome)
        began = self.clock()
        command = (*stage.command, f"REPORTS={self.scratch}") if stage.reports else stage.command
        environment = {**os.environ, COLLECTED: str(collected := self.scratch / f"{stage.name}.collected")}
        for name, minute in ((BEGIN_BY, stage.until), (END_BY, stage.end)):
            if minute and stage.reports:
                environment[name] = str(time.time() + self.left_until(minute))
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            for line in self._lines(process, outcome):
                self.say(line)
                plain = re.sub(r"\x1b\[[0-9;]*m", "", line.strip())
                outcome.failing |= bool(FAILING.match(plain))
                if found := CLOSING.match(plain):
                    outcome.closing.append(found[1])
            outcome.code = process.wait()
        except BaseException:  # this run is ended: so is what it started
            finish(process, signal.SIGINT)
            raise
        outcome.minutes = (self.clock() - began) / 60
        if outcome.code and (outcome.failing or not outcome.cut):
            outcome.trouble = f"{' '.join(stage.command[:2])} failed with exit code {outcome.code}"
        ran = [test for name in stage.reports for test in read(self.scratch / f"{name}.xml", name, outcome)]
        if outcome.cut:
            there = collected.read_text().splitlines() if collected.exists() else [stage.name]
            outcome.late += [test for test in dict.fromkeys(there) if test not in ran and test not in outcome.late]
        return not outcome.trouble

    def _lines(self, process: subprocess.Popen[bytes], outcome: StageOutcome) -> Iterator[str]:
        """What it says; at the minutes after its end it is interrupted, then killed. What it leaves behind and still
        holds its output is waited for no longer.
        """
        assert process.stdout is not None
        end, rest, pipe = outcome.stage.end, b"", process.stdout.fileno()
        ways = [(end + INTERRUPTED, signal.SIGINT), (end + KILLED, signal.SIGKILL)] if end else []
        while True:
            while ways and self.left_until(ways[0][0]) <= 0:
                outcome.cut = True
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, ways.pop(0)[1])
            said = os.read(pipe, 65536) if select.select([pipe], [], [], 0.5)[0] else None
            if said == b"" or (said is None and process.poll() is not None):
                break
            *lines, rest = (rest + (said or b"")).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
        if rest:
            yield rest.decode(errors="replace")

    def table(self) -> list[str]:
        """Minutes by stage against the budget, and how pytest closed each."""
        lines = ["", f"{'stage':<17}{'minutes':>8}{'budget':>8}"]
        for outcome in self.outcomes:
            mark = f"  WARNING: over {WARN} times of its budget" if outcome.slow else ""
            lines.append(f"{outcome.stage.name:<17}{outcome.minutes:>8.1f}{outcome.stage.budget:>8.0f}{mark}")
            lines += [f"{'':<17}  {closing}" for closing in outcome.closing]
        whole = (self.clock() - self.started) / 60
        mark = f"  WARNING: over the {LIMIT} minutes of a run" if whole > LIMIT else ""
        return [*lines, f"{'all':<17}{whole:>8.1f}{LIMIT:>8.0f}{mark}"]

    def end(self) -> int:
        """Prints the table and, last, what matters most; the exit code."""
        for line in self.table():
            self.say(line)
        absent = {test: reason for outcome in self.outcomes for test, reason in outcome.absent.items()}
        late = [test for outcome in self.outcomes for test in outcome.late]
        for test, reason in absent.items():
            self.say(f"did not run: {test}: {reason}")
        if late:
            left = f"{len(late)} TESTS DID NOT RUN, as {LATE}: {', '.join(late)}"
        if trouble := [outcome.trouble for outcome in self.outcomes if outcome.trouble]:
            if late:
                self.say(left)
            self.say(f"CI FAILED: {'; '.join(trouble)}")
            return 1
        if absent:
            if late:
                self.say(left)
            self.say(f"CI FAILED: {len(absent)} listed tests did not run: {', '.join(absent)}")
            return 1
        self.say(left if late else "every listed test ran, and passed")
        return 0


def finish(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Ends it and what it started: asked to, and killed half a minute later."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, how)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def read(report: Path, name: str, outcome: StageOutcome) -> list[str]:
    """The tests that ran, by a JUnit report; adds to the outcome what it says of those that did not."""
    try:
        cases = list(ElementTree.parse(report).iter("testcase"))  # noqa: S314  # pytest's own, of this run
    except (OSError, ElementTree.ParseError):
        if not outcome.cut:
            outcome.trouble = outcome.trouble or f"{name} left no report: it ran no test"
        return []
    ran = []
    for case in cases:
        test = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        skipped = case.find("skipped")
        if skipped is None or skipped.get("type") == "pytest.xfail":
            ran.append(test)
            if case.find("failure") is not None or case.find("error") is not None:
                outcome.trouble = outcome.trouble or f"{test} failed"
            continue
        reason = skipped.get("message", "")
        if LATE in reason:
            outcome.late.append(test)
        elif not any(re.search(known, reason) for known in MAY_SKIP):
            outcome.absent[test] = reason
    if not ran and not outcome.late and not outcome.cut:
        outcome.trouble = outcome.trouble or f"{name} ran no test"
    return ran


def listed(stage: Stage) -> list[str]:
    """The tests of a stage that could not begin, as pytest collects them."""
    arguments = [f"{stage.command[-1]} --collect-only -q"]
    done = subprocess.run([*stage.command[:-1], *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if "::" in line]


def kubernetes(run: CiRun, building: subprocess.Popen[bytes], log: Path) -> None:
    """Its tests, where Kubernetes and the images are built in time, as many as the hour holds."""
    while building.poll() is None and run.left_until(BUILT_BY) > 0:
        time.sleep(5)
    code = building.poll()
    run.say(log.read_text(errors="replace"))
    if code == 0:
        run.stage(PODS)
        return
    outcome = StageOutcome(PODS)
    run.outcomes.append(outcome)
    if code is None:  # what was built by now is kept for the next time
        run.say(f"Kubernetes and its images were not built by minute {BUILT_BY}: none of its tests runs")
        outcome.late = listed(PODS) or FILES.split()
    elif code == CANNOT:
        outcome.absent = dict.fromkeys(listed(PODS), log.read_text(errors="replace").strip())
    if not outcome.late and not outcome.absent:
        outcome.trouble = f"Kubernetes or its images could not be built (exit code {code}); the lines above say why"


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as folder:
        run = CiRun(Path(folder), say=lambda line: print(line, flush=True))
        if not run.stage(LINT):
            return run.end()
        log = Path(folder) / "kubernetes"
        with log.open("wb") as out:  # built meanwhile, of what CPU time the tests leave
            building = subprocess.Popen(PREPARE, cwd=ROOT, stdout=out, stderr=out, start_new_session=True)
        try:
            if all(run.stage(stage) for stage in STAGES):
                kubernetes(run, building, log)
        finally:
            if building.poll() is None:
                finish(building, signal.SIGTERM)
        return run.end()


if __name__ == "__main__":
    sys.exit(main())
