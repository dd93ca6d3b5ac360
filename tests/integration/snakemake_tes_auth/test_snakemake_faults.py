"""Snakemake against a TES whose answers go wrong: nothing is lost, nothing fails, nothing hangs, nothing is submitted
twice.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.bare_rig import Bare, bare  # noqa: F401
from tests.support.faults import Fault, creations, lists
from tests.support.snakemake_faults import Through, rig, signalled, work  # noqa: F401
from tests.support.tes_kit import wait_for

pytestmark = pytest.mark.long


def ended_well(rig: Through, work: Path, prefix: str, *more: str) -> str:
    code, said = rig.run(work, prefix, "--config", "slow=0.2", *more)
    assert code == 0, said
    assert rig.get(prefix, "sum.txt") == b"0\n1\n2\n3\n4\n5\n"
    return said


def even(n: int) -> Callable[[str, str], bool]:
    """Each n-th request."""
    count = iter(range(10**9))
    return lambda method, path: next(count) % n == n - 1


def test_a_storm_of_all_faults_loses_nothing_and_submits_nothing_twice(rig: Through, work: Path) -> None:
    rig.proxy.faults += [
        *(Fault(kind, times=3, wanted=even(n)) for n, kind in ((3, "status"), (5, "away"), (4, "slow"))),
        *(Fault(kind, times=2, value=500, wanted=creations) for kind in ("lost", "cut", "status-after", "status")),
        *(Fault(kind, times=2, wanted=lists) for kind in ("truncate", "cut", "repeat")),
        Fault("lag", times=10**9, value=1.0, wanted=lists),
    ]
    for fault in rig.proxy.faults:
        if fault.kind == "slow":
            fault.value = 0.5
    ended_well(rig, work, rig.prefix())
    assert rig.once_each() and len(rig.proxy.creations) == 7
    assert all(
        f.times == 0 for f in rig.proxy.faults if f.kind in ("lost", "cut", "truncate", "repeat", "status-after")
    )


def test_a_task_that_the_tes_forgot_is_submitted_anew_once(rig: Through, work: Path) -> None:
    prefix = rig.prefix()
    process = rig.start(work, prefix, "--config", "slow=4")
    wait_for("tasks", lambda: len(rig.proxy.born) >= 6)
    rig.proxy.forgotten.add(next(iter(rig.proxy.born)))
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert rig.once_each() and len(rig.proxy.creations) == 8 and "knows this task no more" in said


def test_a_signal_cancels_all_that_lives_also_in_the_middle(rig: Through, work: Path) -> None:
    """With SIGINT ignored, as it is in all that a shell starts in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        signalled(rig, work, signal.SIGTERM, "submission")
    finally:
        signal.signal(signal.SIGINT, before)
