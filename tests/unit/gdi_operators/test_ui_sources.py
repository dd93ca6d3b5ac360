"""The pages' sources: types written from the contracts, lines of at most 120 columns."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from gdi.contracts.jobs import JobFacts
from token_broker.db.store import jobs

ROOT = Path(__file__).parents[3]
UI = ROOT / "plugins" / "gdi_operators" / "ui"


def test_the_types_of_the_pages_are_those_of_the_contracts() -> None:
    script = runpy.run_path(str(ROOT / "packaging" / "ui_types.py"))
    assert script["FILE"].read_text() == script["text"](), "run packaging/ui_types.py, then npm run build"


@pytest.mark.parametrize("file", sorted(p.relative_to(UI).as_posix() for p in (UI / "src").rglob("*.*")))
def test_lines_are_at_most_120_columns(file: str) -> None:
    long = [n for n, line in enumerate((UI / file).read_text().splitlines(), 1) if len(line) > 120]
    assert not long, f"{file}: {long}; npx prettier --print-width 120 --write {file}"


def test_what_is_known_of_a_job_is_stored_under_its_own_name() -> None:
    assert set(JobFacts.model_fields) <= set(jobs.c.keys())
