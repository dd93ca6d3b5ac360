"""A run's RO-Crate is a Workflow Run Crate, as the profile's own validator sees it: every MUST, and every SHOULD that
can be kept.
"""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path
from typing import Any

import pytest
import rdflib.plugins.shared.jsonld.context as jsonld
from rocrate_validator import models, services
from rocrate_validator.utils.http import HttpRequester

from gdi_operators.settings import settings
from tests.support.packed_results import ENTRY, KEYS, packed
from tests.support.results_kit import a_run, gathered

pytestmark = pytest.mark.system
TERMS = "https://w3id.org/ro/terms/workflow-run"
# SHOULDs that a run of ours cannot keep, and why.
NOT_KEPT = {
    # an application's id is a URI: the main workflow is a file of the crate, as Workflow RO-Crate wants it
    "process-run-crate-0.5_5.1",
    "workflow-ro-crate-1.0_6.1",  # README.md at the root: the workflow's own lies beside its Snakefile
    "workflow-ro-crate-1.0_6.2",
    "process-run-crate-0.5_13.2",  # a container's registry: images of the demo have none
    "ro-crate-1.1_26.1",  # directories end with a slash: datasets are not in the crate, their ids are the archive's
    "ro-crate-1.1_28.1",  # what lies elsewhere can be fetched: these data are under access control
}


def contexts() -> dict[str, dict[str, Any]]:
    """The JSON-LD contexts, without a network: RO-Crate's own, with the two terms as version 1.1 had them, and the few
    of Workflow Run Crate that we use.
    """
    base: dict[str, Any] = json.loads(importlib.resources.files("rocrate").joinpath("data/ro-crate.jsonld").read_text())
    base["@context"] |= {n: f"https://bioschemas.org/{n}" for n in ("ComputationalWorkflow", "FormalParameter")}
    run = {"@context": {n: f"{TERMS}#{n}" for n in ("ContainerImage", "DockerImage", "sha256")}}
    return {"https://w3id.org/ro/crate/1.1/context": base, f"{TERMS}/context": run}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    known = contexts()

    class Answer:
        def __init__(self, url: str) -> None:
            self.ok, self.status_code = url in known, 200 if url in known else 404
            self.text, self.url = json.dumps(known.get(url, {})), url
            self.content, self.headers = self.text.encode(), {"Content-Type": "application/ld+json"}

        def json(self) -> Any:
            return json.loads(self.text)

    monkeypatch.setattr(jsonld, "source_to_json", lambda source, *_, **__: (known[source], None))
    monkeypatch.setattr(HttpRequester, "__getattr__", lambda *_: lambda url, *_, **__: Answer(url))


def test_the_validator_of_the_profile_finds_nothing_that_must_be_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    monkeypatch.setenv("GDI_RESULTS_DIR", str(tmp_path))
    settings.cache_clear()
    run = a_run(KEYS, ENTRY)
    gathered(tmp_path, run, KEYS)
    packed(run, tmp_path / "run.zip")
    settings.cache_clear()
    result = services.validate(
        services.ValidationSettings(
            rocrate_uri=str(tmp_path / "run.zip"),
            profile_identifier="workflow-run-crate-0.5",
            requirement_severity=models.Severity.RECOMMENDED,
            skip_availability_check=True,
        )
    )
    found = {(issue.severity.name, issue.check.identifier, issue.message) for issue in result.get_issues()}
    assert not {issue for issue in found if issue[0] == "REQUIRED"}
    assert not {issue for issue in found if issue[1] not in NOT_KEPT}
