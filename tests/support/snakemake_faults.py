"""Snakemake against a TES and S3 that fail on request."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bare_rig import Bare, bare  # noqa: F401
from tests.support.faults import Fault, Proxy, creations, lists
from tests.support.tes_kit import wait_for

SNAKEFILE = """
container: "gdi-task:1"
rule all:
    input: "sum.txt"
rule one:
    output: "out/{i}.txt"
    shell: "sleep {config[slow]}; echo {wildcards.i} > {output}"
rule add:
    input: expand("out/{i}.txt", i=range(6))
    output: "sum.txt"
    shell: "cat {input} | sort > {output}"
"""


class Through(Bare):
    """The same rig, its TES behind a proxy that faults."""

    def __init__(self, around: Bare, proxy: Proxy) -> None:
        self.__dict__ |= around.__dict__
        self.tes = copy.copy(around.tes)
        self.tes.url = proxy.url
        self.proxy = proxy

    def once_each(self) -> bool:
        """No (job, try) reached the TES twice."""
        return len(self.proxy.creations) == len(set(self.proxy.creations))


@pytest.fixture
def rig(bare: Bare) -> Iterator[Through]:
    with Proxy(bare.tes.url) as proxy:
        yield Through(bare, proxy)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    return tmp_path


def signalled(rig: Through, work: Path, number: int, moment: str) -> None:
    prefix = rig.prefix()
    slow = creations if moment == "submission" else lists
    process = rig.start(work, prefix, "--config", "slow=300")
    if moment == "submission":
        rig.proxy.faults.append(Fault("slow", times=3, value=2, wanted=slow))
        wait_for("a creation under way", lambda: [p for p in rig.proxy.log if creations(*p)])
    else:
        wait_for("tasks", lambda: len(rig.proxy.born) >= 6)
        rig.proxy.faults.append(Fault("slow", times=1, value=3, wanted=slow))
        seen = len(rig.proxy.log)
        wait_for("a list under way", lambda: any(lists(*p) for p in rig.proxy.log[seen:]))
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1, said
    live = [t for t in rig.of_prefix(prefix) if t["state"] in ("QUEUED", "INITIALIZING", "RUNNING")]
    assert rig.of_prefix(prefix) and not live, said
