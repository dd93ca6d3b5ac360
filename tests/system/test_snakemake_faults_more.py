"""Snakemake against a TES that is away for long, and signals at other moments: the dear part of
tests/integration/snakemake_tes_auth/test_snakemake_faults.py.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.support.bare_rig import bare  # noqa: F401
from tests.support.faults import Fault
from tests.support.snakemake_faults import Through, rig, signalled, work  # noqa: F401
from tests.support.tes_kit import wait_for

pytestmark = pytest.mark.system


def test_a_tes_that_is_away_for_a_while_is_waited_for_with_words_and_ever_longer_pauses(
    rig: Through,
    work: Path,
) -> None:
    prefix = rig.prefix()
    process = rig.start(work, prefix, "--config", "slow=1")
    wait_for("tasks", lambda: len(rig.proxy.creations) >= 6, 60)
    rig.proxy.log.clear()
    rig.proxy.faults.append(Fault("away", times=10**9))
    began = time.monotonic()
    wait_for("a message", lambda: time.monotonic() - began > 8, 20)
    requests = len(rig.proxy.log)
    rig.proxy.faults.clear()
    said, _ = process.communicate(timeout=90)
    assert process.returncode == 0, said
    assert "Waiting for the TES" in said and 3 <= requests <= 40 and rig.once_each()


def test_a_tes_that_stays_away_ends_in_a_message_and_the_next_start_carries_on(rig: Through, work: Path) -> None:
    prefix = rig.prefix()
    process = rig.start(work, prefix, "--config", "slow=1", "--tes-auth-patience", "3")
    wait_for("tasks", lambda: len(rig.proxy.creations) >= 6, 60)
    rig.proxy.faults.append(Fault("away", times=10**9))
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "has not answered for" in said
    rig.proxy.faults.clear()
    code, said = rig.run(work, prefix, "--config", "slow=1", "--rerun-incomplete", "--nolock")
    assert code == 0, said
    assert rig.once_each() and len(rig.proxy.creations) == 7


@pytest.mark.parametrize(
    ("number", "moment"), [(signal.SIGINT, "submission"), (signal.SIGTERM, "poll"), (signal.SIGINT, "poll")]
)
def test_a_signal_cancels_all_that_lives_also_in_the_middle(rig: Through, work: Path, number: int, moment: str) -> None:
    signalled(rig, work, number, moment)
