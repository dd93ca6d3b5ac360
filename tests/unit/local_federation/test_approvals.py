"""In a federation that stays up an edited workflow is approved while it is up; what was written in a policy stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gdi.contracts.workflow_files import digest_of
from gdi.local_federation.approvals import CatalogueWatch, approve, approved


def workflow(catalogue: Path, name: str) -> Path:
    folder = catalogue / name
    folder.mkdir(parents=True)
    (folder / "workflow.yaml").write_text("name: x\n")
    return folder


def test_an_edited_workflow_is_approved_beside_its_version_before(tmp_path: Path) -> None:
    folder = workflow(tmp_path / "catalogue", "counts")
    policy = tmp_path / "policy.yaml"
    first = {"name": "counts", "digest": digest_of(folder)}
    own: dict[str, Any] = {
        "floor": 7,
        "workflows": [first, {"approved_by": "key-1"}],
        "blocked": ["sha256:" + "0" * 64],
    }
    policy.write_text(yaml.safe_dump(own))
    assert not approve(policy, approved(tmp_path / "catalogue")), "nothing is new"
    (folder / "Snakefile").write_text("rule all:\n")
    CatalogueWatch(tmp_path / "catalogue", lambda: [policy]).look()
    second = {"name": "counts", "digest": digest_of(folder)}
    assert yaml.safe_load(policy.read_text()) == {**own, "workflows": [*own["workflows"], second]}


def test_a_catalogue_that_cannot_be_read_is_looked_at_again(tmp_path: Path) -> None:
    watch = CatalogueWatch(tmp_path / "none", lambda: [])
    watch.look()
    watch.start()
    watch.stop()


@pytest.mark.parametrize("found", ["", "floor: 7\n", "workflows:\n", "workflows: [{name\n", "- 1\n"])
def test_a_policy_that_somebody_is_writing_is_left_as_it_is(tmp_path: Path, found: str) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(found)
    assert not approve(policy, approved(workflow(tmp_path / "catalogue", "counts").parent))
    assert policy.read_text() == found
