"""The catalogue comes to the broker once, whatever one of its entries is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from gdi.broker_client import catalogue
from gdi.broker_client.catalogue import bring_workflows
from gdi.contracts.packed_workflow import unpacked
from gdi.contracts.workflow_files import digest_of
from gdi.kit.canonical import sha256_hex
from gdi.kit.problem import ProblemError

WORKFLOWS = Path(__file__).resolve().parents[3] / "workflows"


class Broker:
    """Keeps what it is sent; refuses the names in `refuses`."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.refuses: set[str] = set()
        self.questions: list[int] = []

    def missing_workflows(self, digests: list[str]) -> list[str]:
        self.questions.append(len(digests))
        return [digest for digest in digests if digest not in self.kept]

    def put_workflow(self, digest: str, body: bytes) -> None:
        name = unpacked(body).name
        assert "sha256:" + sha256_hex(body) == digest
        if name in self.refuses:
            raise ProblemError(422, "wrong-hash", "The body's SHA-256 is not the digest.")
        self.kept[digest] = name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ancestry", "cohort-counts"):
        shutil.copytree(WORKFLOWS / name, tmp_path / name)
    return tmp_path


def test_what_the_broker_lacks_is_brought_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker: Any = Broker()
    assert bring_workflows(broker, folder) == ["ancestry", "cohort-counts"]
    assert bring_workflows(broker, folder) == []
    before = digest_of(folder / "ancestry")
    (folder / "ancestry" / "Snakefile").write_text("# a new version\n")
    assert bring_workflows(broker, folder) == ["ancestry"] and len(broker.kept) == 3 and before in broker.kept
    monkeypatch.setattr(catalogue, "MAX_WORKFLOWS", 1)
    broker.questions.clear()
    assert bring_workflows(broker, folder) == [] and broker.questions == [1, 1]


def test_a_wrong_entry_holds_up_no_other(folder: Path) -> None:
    broker: Any = Broker()
    broker.refuses = {"ancestry"}
    shutil.copytree(folder / "cohort-counts", folder / "another-name")
    for name, text in (("broken", "name: ["), (".git", "name: x"), ("Not-A-Name", "name: x")):
        (folder / name).mkdir()
        (folder / name / "workflow.yaml").write_text(text)
    (folder / "a-file").write_text("nothing")
    assert bring_workflows(broker, folder) == ["cohort-counts"]


def test_a_broker_that_is_away_is_said(folder: Path) -> None:
    broker: Any = Broker()

    def away(_: list[str]) -> list[str]:
        raise ProblemError(503, "database-unavailable", "The broker's database is away.")

    broker.missing_workflows = away
    with pytest.raises(ProblemError, match="away"):
        bring_workflows(broker, folder)
