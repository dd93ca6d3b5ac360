"""A Snakemake pod as a process, beside a node's stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gdi.contracts.run_file import RunFile
from gdi.contracts.workflow_files import digest_of
from tests.support.snakemake_node import Node


class Pod:
    """A pod's folder and process."""

    def __init__(self, root: Path, node: Node) -> None:
        self.root, self.node, self.process, self.starts = root, node, None, 0
        (root / "work").mkdir(parents=True)
        (root / "identity").mkdir()
        (root / "identity" / "token").write_text(node.identity)

    def workflow(self, snakefile: str) -> Pod:
        (self.root / "workflow").mkdir()
        (self.root / "workflow" / "Snakefile").write_text(snakefile)
        return self

    def start(self, **parameters: Any) -> Pod:
        self.starts += 1
        run = RunFile(
            run=self.node.run,
            attempt=1,
            node="node-a",
            pod=f"pod-{self.starts}",
            broker_url=self.node.url,
            gateway_url=self.node.url,
            audience=self.node.url,
            workflow="allele-frequency",
            digest=digest_of(self.root / "workflow"),
            parameters=parameters,
            datasets=sorted(self.node.datasets),
        )
        (self.root / "run.json").write_text(run.model_dump_json())
        self.log = self.root / f"log-{self.starts}.txt"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "snakemake_tes_auth.pod", "--root", str(self.root)],
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"]},
        )
        return self

    def end(self, timeout: float = 240) -> int:
        return self.process.wait(timeout)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def said(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(120)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Node(tmp_path / "node") as node:
        yield node


@pytest.fixture
def pod(tmp_path: Path, node: Node) -> Iterator[Pod]:
    pod = Pod(tmp_path / "pod", node)
    yield pod
    pod.kill()


CHAIN = """
container: "gdi-task:1"
rule all:
    input: "end.txt"
rule first:
    output: temp("first.txt")
    shell: "echo one > {output}"
rule second:
    input: "first.txt"
    output: "end.txt"
    log: "logs/second.log"
    shell: "cat {input} > {output}; echo two >> {output}"
"""
