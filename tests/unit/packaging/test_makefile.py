"""`make test-… ARGS=FILE` runs that file only; ARGS without a path leave a target's folders as they are."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from tests.support.wheels import ROOT

TARGETS = ["test", "test-parts", "test-federation", "test-long", "test-system", "test-dist", "test-kubernetes"]
FILE = "tests/unit/packaging/test_makefile.py"
TAKE_A_VALUE = {"-n", "-m", "-o", "-k", "--durations", "--dist"}


def commands(target: str, arguments: str = "", *more: str) -> list[list[str]]:
    """What make would run of pytest or itself, as words."""
    done = subprocess.run(
        ["make", "-n", "--no-print-directory", target, f"ARGS={arguments}", *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [shlex.split(line) for line in done.stdout.splitlines() if "pytest" in line]


def positional(words: list[str]) -> list[str]:
    pairs = zip(["", *words], words, strict=False)
    return [word for before, word in pairs if not word.startswith("-") and before not in TAKE_A_VALUE][1:]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("path", [FILE, f"{FILE}::test_x", "tests/unit"])
def test_a_path_is_all_that_runs(target: str, path: str) -> None:
    (command,) = commands(target, f"-x {path}")
    assert positional(command) == [path]
    assert "-x" in command


@pytest.mark.parametrize("target", TARGETS)
def test_options_alone_leave_the_targets_own_folders(target: str) -> None:
    for command in commands(target, "-k some_name"):
        assert positional(command) == []
        folders = [word for word in command if word.startswith("testpaths=")]
        assert len(folders) == 1 and all((ROOT / f).exists() for f in folders[0].partition("=")[2].split())


def test_each_part_leaves_a_report_of_its_own() -> None:
    found = [
        word
        for target in ("test", "test-long", "test-system", "test-kubernetes")
        for command in commands(target, "", "REPORTS=/r")
        for word in command
        if word.startswith("--junitxml")
    ]
    parts = ("test-parts", "test-federation", "test-long", "test-system", "test-kubernetes")
    assert sorted(found) == sorted(f"--junitxml=/r/{part}.xml" for part in parts)
