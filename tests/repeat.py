"""`python -m tests.repeat [--times 20] [--load 1,8] [FILE…]`: whether tests pass each time, on an idle and on a busy
machine.

Without files: the tests of tests/order_sensitive.txt, which wait for an order of events. `--load N` is so many busy
loops beside the tests; loops and tests share the machine evenly, at the lowest priority, so that nobody else's work
suffers. For each test a line such as "20 of 20"; exit code 1 where one failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("order_sensitive.txt")
LONGEST = 3600  # seconds after which a busy loop ends by itself
BUSY = f"""
import os, time
end, parent = time.monotonic() + {LONGEST}, os.getppid()
while time.monotonic() < end and os.getppid() == parent: pass
"""


@contextmanager
def busy() -> Iterator[None]:
    """One busy loop; it ends with the block, with its parent, or after an hour."""
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def listed() -> list[str]:
    """The tests of the list: one file or node id a line, `#` begins a comment."""
    lines = (line.split("#")[0].strip() for line in LIST.read_text().splitlines())
    return [line for line in lines if line]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.repeat", description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--load", type=lambda text: [int(n) for n in text.split(",")], default=[1, 8])
    parser.add_argument("files", nargs="*", help="files or node ids; without any: those of tests/order_sensitive.txt")
    asked = parser.parse_args(arguments)
    os.nice(19)
    code = 0
    for load in asked.load:
        print(f"load {load}, {asked.times} times:", flush=True)
        command = [sys.executable, "-m", "pytest", "-p", "tests.repeat", "-q", "-n", "0", "--no-header", "--tb=short"]
        with ExitStack() as loops:
            for _ in range(load):
                loops.enter_context(busy())
            files = asked.files or listed()
            code |= subprocess.run([*command, "--repeat", str(asked.times), *files], check=False).returncode
    return int(bool(code))


# --- the plugin of pytest that does the repeating -----------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--repeat", type=int, default=1, help="run each test so often")


@pytest.fixture
def _round(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.fixturenames.append("_round")
    times = metafunc.config.getoption("--repeat")
    metafunc.parametrize("_round", range(times), indirect=True, ids=lambda n: f"round{n}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed, ran = Counter[str](), set[str]()
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            name = _without_round(report.nodeid)
            ran.add(name)
            passed[name] += outcome == "passed" and report.when == "call"
    times = terminalreporter.config.getoption("--repeat")
    for name in sorted(ran):
        terminalreporter.write_line(f"{passed[name]} of {times}  {name}")


def _without_round(nodeid: str) -> str:
    name, bracket, rest = nodeid.partition("[")
    parts = [p for p in rest.removesuffix("]").split("-") if not p.startswith("round")]
    return f"{name}[{'-'.join(parts)}]" if bracket and parts else name


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
