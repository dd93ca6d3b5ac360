"""Snakemake on any TES, without the rest of this project: the workspace by Snakemake's own S3 plugin, found again after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from bare_rig import Bare, bare  # noqa: F401 - a fixture

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


def workflow(folder: Path, snakefile: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "Snakefile").write_text(snakefile)
    return folder


def test_a_workflow_runs_on_a_tes_with_its_workspace_in_s3(bare: Bare, tmp_path: Path) -> None:
    prefix = bare.prefix()
    code, said = bare.run(workflow(tmp_path, CHAIN), prefix)
    assert code == 0, said
    assert bare.get(prefix, "end.txt") == b"one\ntwo\n"
    assert bare.files(prefix) == ["end.txt", "logs/second.log"], "the temporary file is removed"
