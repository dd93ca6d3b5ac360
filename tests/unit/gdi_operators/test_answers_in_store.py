"""A worker publishes an answer, and an api-server that shares no disk with it shows it: whole, or said to be away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gdi.kit.secret_files import write_private
from gdi.result_store.model import StoreAwayError
from gdi_operators.results import folder as results
from gdi_operators.results import store
from gdi_operators.settings import settings
from tests.support.result_stores import RUN
from tests.support.s3_server import ACCESS, SECRET, S3Server, s3_server

SUMMARY = {
    "run": RUN,
    "attempt": 1,
    "workflow": "w",
    "digest": "sha256:" + "0" * 64,
    "user": "alice",
    "datasets": [],
    "nodes": {},
    "releases": [],
}


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with s3_server() as server:
        server.bucket("answers")
        yield server


@pytest.fixture(params=["folder", "s3"])
def places(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("GDI_RESULTS_DIR", str(tmp_path / "api-server"))
    monkeypatch.setattr(store, "FRESH", 0.0)
    if request.param == "folder":
        monkeypatch.setenv("GDI_RESULT_STORE", str(tmp_path / "store"))
    else:
        keys = write_private(tmp_path / "keys.json", json.dumps({"access_key": ACCESS, "secret_key": SECRET}))
        monkeypatch.setenv("GDI_RESULT_STORE", f"s3://answers/{tmp_path.name.replace('[', '-').replace(']', '')}")
        monkeypatch.setenv("GDI_RESULT_STORE_ENDPOINT", request.getfixturevalue("moto").url)
        monkeypatch.setenv("GDI_RESULT_STORE_CREDENTIALS_FILE", str(keys))
    settings.cache_clear()
    store.found.cache_clear()
    yield tmp_path
    settings.cache_clear()
    store.found.cache_clear()


def gathered(folder: Path, text: str) -> None:
    store.own(folder)
    (folder / "answer.tsv").write_text(text)
    (folder / "releases" / "node-a").mkdir(parents=True, exist_ok=True)
    (folder / "releases" / "node-a" / "counts.json").write_text(text * 3)
    (folder / "releases.json").write_text(json.dumps(SUMMARY | {"title": text}))


def seen() -> tuple[str, str]:
    found = results.find(RUN)
    assert found.summary is not None, found.broken
    return found.summary.title, (found.folder / "answer.tsv").read_text()


def test_an_answer_is_seen_without_a_shared_disk_and_in_its_newest_version(places: Path) -> None:
    assert results.find(RUN).summary is None
    worker = places / "worker" / RUN
    gathered(worker, "one")
    assert results.find(RUN).summary is None  # not published yet
    store.publish(RUN, worker)
    assert seen() == ("one", "one")
    assert (places / "api-server" / RUN / "releases" / "node-a" / "counts.json").read_text() == "oneoneone"
    gathered(worker, "two")
    store.publish(RUN, worker)
    assert seen() == ("two", "two")
    other = places / "other-worker" / RUN  # has the workflow only: what another worker published stays
    (other / "workflow").mkdir(parents=True)
    (other / "workflow" / "Snakefile").write_text("rule all:")
    store.publish(RUN, other)
    assert seen() == ("two", "two")
    assert (places / "api-server" / RUN / "workflow" / "Snakefile").is_file()


def test_what_is_published_never_overwrites_a_worker_that_writes(places: Path) -> None:
    mine = places / "api-server" / RUN  # worker and api-server share this folder
    gathered(mine, "one")
    store.publish(RUN, mine)
    (mine / "answer.tsv").write_text("being written")
    store.bring(RUN, mine)
    assert (mine / "answer.tsv").read_text() == "being written"


def test_a_store_that_lies_or_is_away_is_said_and_what_is_here_is_shown(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = places / "worker" / RUN
    gathered(worker, "one")
    store.publish(RUN, worker)
    opened = store.need()
    real = opened.fetch

    def lying(key: str, into: object, limit: int) -> str:
        sha256 = real(key, into, limit)  # type: ignore[arg-type]
        return sha256 if key.endswith("manifest.json") else "0" * 64

    def away(key: str, into: object, limit: int) -> str:
        raise StoreAwayError("it is away")

    monkeypatch.setattr(opened, "fetch", lying)
    found = results.find(RUN)
    assert found.summary is None and "not what was published" in found.broken
    assert not (places / "api-server" / RUN / "answer.tsv").exists()
    monkeypatch.setattr(opened, "fetch", away)
    assert "it is away" in results.find(RUN).broken
    monkeypatch.setattr(opened, "fetch", real)
    assert seen() == ("one", "one")
    monkeypatch.setattr(opened, "fetch", away)
    assert seen() == ("one", "one")


def test_paths_of_a_manifest_stay_in_the_folder(places: Path) -> None:
    worker = places / "worker" / RUN
    gathered(worker, "one")
    store.publish(RUN, worker)
    sha256 = store._sha256(worker / "answer.tsv")
    bad = {"../escape": {"sha256": sha256, "bytes": 3}, "/etc/x": {"sha256": sha256, "bytes": 3}}
    import io

    store.need().put(f"answers/{RUN}/manifest.json", io.BytesIO(json.dumps({"files": bad}).encode()))
    store.bring(RUN, places / "api-server" / RUN)
    assert not (places / "api-server" / "escape").exists()
