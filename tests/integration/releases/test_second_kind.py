"""A kind of release that comes with another package goes the whole way, and no room of the product names it: checked,
looked at and published at the node, remembered in its ledger, gathered, shown and packed at the coordinator.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from gdi.contracts.workflow import CatalogueEntry
from gdi.contracts.workflow_files import digest_of, load
from gdi.kit.canonical import sha256_hex
from gdi.kit.jose import SigningKey
from gdi.releases import signature
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import Rules, Scope
from gdi.releases.registry import kind_of
from gdi_operators.catalogue import usable
from gdi_operators.gather import keep, merge
from gdi_operators.results import api, crate
from gdi_operators.results.folder import ANSWER, PLOT, find
from gdi_operators.settings import settings
from node_gateway.review import pages
from node_gateway.review.cases import Case, Excerpt
from tests.support.gateway_releases import fetch
from tests.support.gateway_world import Run, World, slug, world_fixture  # noqa: F401
from tests.support.results_kit import a_run
from tests.support.second_kind import gateway_with_it, second_kind  # noqa: F401


def rows(**questions: tuple[int, int]) -> bytes:
    return json.dumps([{"question": q, "yes": yes, "no": no} for q, (yes, no) in questions.items()]).encode()


def ask(world: World, run: Run, content: bytes, kind: str, **changes: Any) -> Any:
    world.s3.put(f"{run.id}/release.json", content)
    body = {"name": "answers", "path": "release.json", "kind": kind, "attempt": run.attempt, **changes}
    return run.call("POST", f"/releases/{run.id}", scope="releases close", json=body)


def workflow(folder: Path, kind: str) -> CatalogueEntry:
    (folder / "survey").mkdir(parents=True)
    (folder / "survey" / "Snakefile").touch()
    release = {"name": "answers", "title": "Answers", "path": "answers.json", "kind": kind}
    content = {"name": "survey", "title": "A survey", "version": "1", "releases": [release]}
    (folder / "survey" / "workflow.yaml").write_text(yaml.safe_dump(content))
    return load(folder / "survey")


def test_at_the_node_it_is_checked_looked_at_published_and_remembered(
    gateway_with_it: World,
    second_kind: str,
) -> None:
    world = gateway_with_it
    run = world.new_run(datasets=("YN-1",))
    waiting = ask(world, run, rows(smoker=(40, 60), rare=(2, 98)), second_kind, review=True)
    assert waiting.status_code == 202, waiting.text
    with world.inside() as inside:
        (mine,) = [w for w in inside.get("/review").json()["waiting"] if w["run"] == run.id]
        assert (mine["kind"], mine["withheld"]) == (second_kind, {"few": 1})
        decision = {"sha256": mine["sha256"], "reviewer": "dr. who", "approve": True}
        assert inside.post(f"/review/{run.id}/answers", json=decision).status_code == 204
    told = ask(world, run, rows(smoker=(40, 60), rare=(2, 98)), second_kind).json()
    published = fetch(run, "answers")
    assert published.json() == {"rows": [["smoker", 40, 60]], "withheld": {}}
    assert sha256_hex(published.content) == told["sha256"]
    assert any("1 questions, 1 withheld" in e["what"] for e in world.audit(run.id) if e["action"].startswith("release"))
    near = world.new_run(datasets=("YN-1",))
    assert ask(world, near, rows(smoker=(41, 60)), second_kind).json()["sites_released"] == 0
    other = world.new_run(datasets=("YN-2",))
    assert ask(world, other, rows(smoker=(41, 60)), second_kind).json()["sites_released"] == 1
    refused = ask(world, other, b'[{"question": "HG001", "yes": 9, "no": 9}]', second_kind)
    assert slug(refused) == "release-refused" and "a row: question" in refused.text and "HG001" not in refused.text


def test_a_node_that_does_not_allow_it_or_has_no_such_kind_says_so(
    gateway_with_it: World,
    second_kind: str,
) -> None:
    world = gateway_with_it
    run = world.new_run()
    unknown = ask(world, run, rows(smoker=(40, 60)), "no-such-kind")
    assert slug(unknown) == "unknown-kind" and second_kind in unknown.json()["action"]
    world.policy()
    assert slug(ask(world, run, rows(smoker=(40, 60)), second_kind)) == "forbidden-check"


def test_the_reviewer_sees_its_rows_under_its_columns(second_kind: str) -> None:
    half, out = kind_of(second_kind).node(), io.BytesIO()
    units = half.read(io.BytesIO(rows(b=(40, 60), a=(9, 8))), Rules(5, 10))
    half.write(out, units, {}, Scope(), Rules(5, 10))
    out.seek(0)
    assert (half.columns, half.rows(out, 1, 5)) == (("question", "yes", "no"), [("b", 40, 60)])
    answer = {"kind": second_kind, "sha256": "0" * 64, "bytes": 9, "sites_released": 2, "withheld": {"few": 1}}
    case = Case(1, "r-" + "0" * 20, "answers", "key", {**answer, "sites_withheld": 1}, {}, 0.0)
    out.seek(0)
    shown = Excerpt(case.unit, half.columns, [*half.rows(out, 0, 5), ("<b>", 1.5, 2)])
    page = bytes(pages.case("node-a", "dr. who", "csrf", case, shown, 0).body).decode()
    assert "<th>question</th><th>yes</th><th>no</th>" in page and '<td>b</td><td class="number">40</td>' in page
    assert "2 questions, 9 bytes" in page and "few: 1 questions" in page and "&lt;b&gt;" in page and "<b>" not in page
    assert "2 questions</td>" in bytes(pages.waiting("node-a", "dr. who", "csrf", [case]).body).decode()


def test_at_the_coordinator_it_is_gathered_shown_and_packed(
    second_kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind, keys = kind_of(second_kind), {"node-a": SigningKey.generate(), "node-b": SigningKey.generate()}
    entry = workflow(tmp_path / "workflows", second_kind)
    assert usable(entry.folder).digest == digest_of(entry.folder)
    run = a_run(keys, entry)
    data, released = {}, []
    for node, content in (("node-a", rows(smoker=(40, 60), tall=(9, 9))), ("node-b", rows(smoker=(10, 20)))):
        half, out = kind.node(), io.BytesIO()
        checked = half.check(half.read(io.BytesIO(content), Rules(5, 10)), Rules(5, 10), Past())
        half.write(out, checked.released, checked.withheld, Scope(), Rules(5, 10))
        data[node] = out.getvalue()
        head = {"name": "answers", "sha256": sha256_hex(data[node])}
        where = {"workflow": run.workflow, "digest": run.digest, "attempt": run.attempt}
        signed = signature.sign(keys[node], node=node, run=run.id, **head, **where)
        counts = {"sites_released": len(checked.released), "sites_withheld": 0, "withheld": {}}
        released.append(
            {"node": node, "kind": kind.name, **head, **counts, "bytes": len(data[node]), "signature": signed}
        )
    folder = tmp_path / "results" / run.id
    kept = {
        node: keep.release(folder, node, "answers", kind.suffix, lambda file, body=body: file.write_bytes(body))  # type: ignore[misc]
        for node, body in data.items()
    }
    size = merge.answer(kind, kept, list(keys), folder, title=entry.workflow.title)
    assert (size.rows, size.withheld) == (2, 1)
    assert (folder / ANSWER).read_text() == "QUESTION\tYES\tNO\nsmoker\t50\t80\ntall\t\t\n"
    assert (folder / PLOT).read_bytes().startswith(b"\x89PNG")

    dag_run = SimpleNamespace(dag_id="survey", run_id="manual__1", conf={"datasets": run.datasets})
    nodes = {i.node: {"datasets": i.datasets, "public_key": i.public_key} for i in run.plan}
    about = {"run": run.id, "attempt": 1, "workflow": run.workflow, "digest": run.digest, "user": run.user}
    summary = {**about, "datasets": run.datasets, "nodes": nodes, "releases": released, "answer_kind": kind.name}
    summary |= keep.origin({"dag_run": dag_run}, entry, run)
    (folder / "releases.json").write_text(json.dumps(summary))
    monkeypatch.setenv("GDI_RESULTS_DIR", str(tmp_path / "results"))
    settings.cache_clear()
    try:
        found = find(run.id)
        shown = api._view(found, run, []).model_dump(exclude_none=True)
        assert shown["answer"] == {
            "columns": ["QUESTION", "YES", "NO"],
            "rows": [["smoker", 50, 80], ["tall", None, None]],
            "total": 2,
            "withheld": 1,
            "unit": "question",
        }
        assert [(r["verified"], r["unit"], r["reasons"]) for r in shown["releases"]] == [
            (True, "question", kind.reasons)
        ] * 2
        described = crate.describe(found, sorted(found.files()), [], found.proofs({}), run, [], None)
        assert "2 questions released, 0 withheld" in json.dumps(described)
    finally:
        settings.cache_clear()
