"""All features with Snakemake inside every task: the same bytes as with plain tasks. Half a hundred starts of Snakemake: too dear for `make test`."""

from __future__ import annotations

from pathlib import Path

import pytest
from bare_rig import Bare, bare  # noqa: F401 - a fixture
from test_snakemake_features import Run, everything, run, workflow  # noqa: F401 - a fixture

pytestmark = pytest.mark.system
MEASURED = ("measured/once.tsv", "measured/thrice.tsv")


def test_both_ways_leave_the_same_bytes(bare: Bare, everything: Run, tmp_path: Path) -> None:  # noqa: F811
    done = run(bare, workflow(tmp_path), "--tes-auth-mode", "snakemake", timeout=450)
    assert done.code == 0, done.said
    plain = everything.files
    assert {p: c for p, c in done.files.items() if p not in MEASURED} == {p: c for p, c in plain.items() if p not in MEASURED}
    assert set(done.files) == set(plain) and {t["tags"]["gdi-mode"] for t in done.tasks} == {"snakemake"}
