"""docs/node-settings.md is what the classes say, each field is described, and both samples are read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from node_gateway.explanation import of_policy
from node_gateway.policy import Policy
from node_gateway.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[3] / "packaging"))
import settings_tables


def test_the_document_is_made_of_the_classes() -> None:
    text = settings_tables.DOCUMENT.read_text()
    assert text == settings_tables.document(), "run: python packaging/settings_tables.py"


def test_every_setting_says_what_it_is() -> None:
    for model in (Settings, Policy):
        assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_the_samples_are_taken_as_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings_tables.SAMPLE.items():
        monkeypatch.setenv(f"NODE_GATEWAY_{name}", value)
    assert Settings.load().node_id == "node-a"
    said = "\n".join(of_policy(settings_tables.sample_policy()))
    assert "allele-frequency" in said and "A person looks at every release first: 1 may." in said
