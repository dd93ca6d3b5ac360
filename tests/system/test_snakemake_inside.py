"""All features with Snakemake inside every task: the same bytes as with plain tasks. Half a hundred starts of
Snakemake: too dear for `make test`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.bare_rig import Bare, bare  # noqa: F401
from tests.support.debian import program
from tests.support.snakemake_features import Run, everything, run, workflow  # noqa: F401

pytestmark = pytest.mark.system
MEASURED = ("measured/once.tsv", "measured/thrice.tsv")


def test_both_ways_leave_the_same_bytes(bare: Bare, everything: Run, tmp_path: Path) -> None:
    done = run(bare, workflow(tmp_path), "--tes-auth-mode", "snakemake", timeout=450)
    assert done.code == 0, done.said
    plain = everything.files
    assert {p: c for p, c in done.files.items() if p not in MEASURED} == {
        p: c for p, c in plain.items() if p not in MEASURED
    }
    assert set(done.files) == set(plain) and {t["tags"]["gdi-mode"] for t in done.tasks} == {"snakemake"}


CELL = {
    "cell_type": "code",
    "execution_count": None,
    "metadata": {},
    "outputs": [],
    "source": ["open(snakemake.output[0], 'w').write('made\\n')"],
}
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
NOTEBOOK = {
    "cells": [CELL],
    "metadata": {"kernelspec": KERNEL, "language_info": {"name": "python", "file_extension": ".py"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}
TOOLS = {
    "r-base-core": ('script: "use.R"', "use.R", 'cat("made\\n", file = snakemake@output[[1]])\n'),
    "jupyter-nbconvert": ('notebook: "use.ipynb"', "use.ipynb", json.dumps(NOTEBOOK)),
}


@pytest.mark.parametrize("package", TOOLS)
def test_a_job_that_needs_another_tool_runs_where_the_image_has_it(bare: Bare, tmp_path: Path, package: str) -> None:
    program(package)
    directive, file, content = TOOLS[package]
    (tmp_path / file).write_text(content)
    (tmp_path / "Snakefile").write_text(f'rule made:\n    output: "made"\n    {directive}\n')
    done = run(bare, tmp_path)
    assert done.code == 0 and done.files == {"made": b"made\n"}, done.said
