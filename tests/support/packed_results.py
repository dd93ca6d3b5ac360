"""A run's results, written and packed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from gdi.contracts import broker_api as m
from gdi.contracts.workflow_files import load
from gdi.kit.jose import SigningKey
from gdi_operators.results import crate
from gdi_operators.results.folder import find
from gdi_operators.settings import settings
from tests.support.results_kit import WORKFLOWS, a_run, gathered

ENTRY = load(WORKFLOWS / "allele-frequency")


KEYS = {"node-a": SigningKey.generate(), "node-b": SigningKey.generate()}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> m.Run:
    monkeypatch.setenv("GDI_RESULTS_DIR", str(tmp_path))
    settings.cache_clear()
    made = a_run(KEYS, ENTRY)
    gathered(tmp_path, made, KEYS)
    yield made
    settings.cache_clear()


def keys(run: m.Run) -> dict[str, dict[str, Any]]:
    return {i.node: i.public_key for i in run.plan}


def audit(run: m.Run) -> m.AuditPage:
    visa = {"source": "https://dac.example.org", "by": "dac", "asserted": 1.7e9, "ends_at": 1.9e9}
    entries = [
        m.AuditEntry(number=i, time=0, actor="broker", action="run.admit", dataset=d, allowed=True, visa=visa)
        for i, d in enumerate(run.datasets)
    ]
    return m.AuditPage(
        entries=[
            *entries,
            m.AuditEntry(number=9, time=0, actor="broker", action="run.admit", dataset="EGAD-OTHER", allowed=False),
        ]
    )


def packed(run: m.Run, file: Path) -> dict[str, Any]:
    """Writes the crate; its entities by id."""
    found = find(run.id)
    closed = run.model_copy(update={"state": "closed", "outcome": "success", "closed_at": run.opened_at + 500})
    crate.write(file, found, found.proofs(keys(run)), closed, crate.approvals_of(run, audit(run)), "portal")
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
        document = json.loads(archive.read("ro-crate-metadata.json"))
    entities = {e["@id"]: e for e in document["@graph"]}
    assert len(entities) == len(document["@graph"]), "no id twice"
    parts = {p["@id"] for p in entities["./"]["hasPart"]}
    assert names - {"ro-crate-metadata.json"} == {p for p in parts if "://" not in p}
    references = {
        v["@id"]
        for e in entities.values()
        for value in e.values()
        for v in (value if isinstance(value, list) else [value])
        if isinstance(v, dict)
    }
    assert {r for r in references if not r.startswith(("http://", "https://"))} <= set(entities), (
        "every reference inside leads somewhere"
    )
    return entities
