"""Releases through a real gateway and a real S3: what passes is published and signed, once; what does not stays."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gdi.kit.jose import verify
from gdi.releases.allele_counts import parquet
from gdi.releases.allele_counts.table import FORMAT
from gdi.releases.columns import ABOUT
from tests.support.gateway_releases import again, ask, fetch, row
from tests.support.gateway_world import NODE, Run, World, slug, world_fixture  # noqa: F401


def test_what_passes_is_published_signed_and_small_counts_stay(world: World) -> None:
    run = world.new_run(datasets=("DS-1",))
    answer = ask(world, run, [row(1), row(2, het=3, hom_alt=0), row(3, hom_alt=0), row(4, missing=2)])
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["sites_released"], told["sites_withheld"], told["withheld"]) == (3, None, {}), "of so few: not told"
    assert told["url"] == f"{world.url}/releases/{run.id}/counts"
    published = fetch(run)
    assert hashlib.sha256(published.content).hexdigest() == told["sha256"] and len(published.content) == told["bytes"]
    rows = {r["pos"]: r for r in published.json()["sites"]}
    assert [(pos, r["ac_min"] == r["ac_max"], r["an_min"] == r["an_max"]) for pos, r in rows.items()] == [
        (1, True, True),
        (3, True, True),
        (4, True, False),
    ]
    assert published.json()["unlisted"] == {"ac_max": 8, "an_max": 200, "reason": "small"}
    assert published.json()["withheld"] == {}
    assert any("3 sites, 1 withheld" in e["what"] for e in world.audit(run.id)), "the node's own audit has the number"
    assert published.headers["content-type"] == "application/json"
    page = run.call("GET", f"/releases/{run.id}/counts", scope="releases", accept="text/html")
    assert (page.status_code, slug(page)) == (406, "not-acceptable")
    claims = verify(told["signature"], [world.gateway_key.jwk()], issuer=NODE, audience=run.id, typ="release+jwt")
    assert (
        claims["sha256"] == told["sha256"]
        and claims["release"] == "counts"
        and claims["workflow"] == "allele-frequency"
        and claims["attempt"] == 1
    )
    assert claims["exp"] - claims["iat"] > 9 * 365 * 86400
    assert any(e["action"] == "release-published" for e in world.audit(run.id))


def test_the_same_release_again_is_answered_the_same_also_after_a_kill(world: World) -> None:
    run = world.new_run(datasets=("DS-2",))
    first = ask(world, run, [row(1), row(2)]).json()
    assert again(run).json() == first
    world.kill()
    world.start()
    run.admit(2)
    assert again(run).json() == first
    later = world.new_run(datasets=("DS-2",))
    ask(world, later, [row(1), row(2, het=22)])
    assert fetch(later).content == fetch(run).content, "the ledger outlives the process"


def test_asking_twice_at_once_releases_once(world: World) -> None:
    run = world.new_run(datasets=("DS-3",))
    world.s3.put(
        f"{run.id}/release.json", json.dumps({"format": FORMAT, "sites": [row(i) for i in range(1, 200)]}).encode()
    )
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(again(run).json())) for _ in range(4)]
    [t.start() for t in threads]
    [t.join(120) for t in threads]
    assert len(answers) == 4 and all(a == answers[0] for a in answers)


def test_a_dataset_is_answered_as_before_and_sums_of_datasets_do_not_give_one_of_them_away(world: World) -> None:
    first = world.new_run(datasets=("DS-4",))
    assert ask(world, first, [row(1), row(2), row(3)]).json()["sites_released"] == 3
    again = world.new_run(datasets=("DS-4",))
    assert ask(world, again, [row(1), row(2, het=21), row(3, het=30)]).status_code == 200
    assert fetch(again).json()["sites"] == fetch(first).json()["sites"], "whatever the file says now"
    both = world.new_run(datasets=("DS-4", "DS-5"))
    ask(world, both, [row(1, hom_ref=72), row(2, hom_ref=72, het=30), row(3, hom_ref=72, het=22)])
    exact = {r["pos"]: r["ac_min"] == r["ac_max"] for r in fetch(both).json()["sites"]}
    assert exact == {1: False, 2: True, 3: False}, "0, 10 and 2 people of DS-5 carry the allele"
    other = world.new_run(datasets=("DS-6",))
    assert ask(world, other, [row(1, hom_ref=52)]).json()["sites_released"] == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"#CHROM\tHG001\n2\t0/1", "not JSON"),
        (json.dumps({"format": FORMAT, "sites": [{**row(1), "sample": "HG001"}]}).encode(), "a row: it must have"),
        (json.dumps({"format": FORMAT, "sites": [row(1), row(2, chrom="HG001 0/1")]}).encode(), "a row: chrom"),
        (json.dumps({"format": FORMAT, "sites": []}).encode() + b" " * 2_000_000, "larger than 2000000 bytes"),
    ],
    ids=["vcf", "sample name", "free text", "too large"],
)
def test_what_is_not_counts_is_refused_with_reasons_and_no_values(world: World, content: bytes, said: str) -> None:
    run = world.new_run(datasets=("DS-14",))  # the files of DS-A change under other tests
    world.s3.put(f"{run.id}/release.json", content)
    answer = again(run)
    assert answer.status_code == 422 and slug(answer) == "release-refused"
    assert said in answer.json()["reasons"][0] and "HG001" not in answer.text and "0/1" not in answer.text
    assert fetch(run).status_code == 404
    assert any(r.startswith("release-refused") for r in world.refusals(run.id))
    assert world.s3.client.list_objects_v2(Bucket="releases", Prefix=run.id).get("KeyCount", 0) == 0


def test_a_hostile_schema_is_never_run(world: World) -> None:
    run = world.new_run(datasets=("DS-7",))
    answer = ask(world, run, [row(1)], schema={"$ref": "http://169.254.169.254/latest", "pattern": "(a+)+$"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"kind": "none"}, 422),
        ({"path": "../x"}, 422),
        ({"path": "/etc/passwd"}, 422),
        ({"path": "missing.json"}, 404),
        ({"workflow": "other"}, 403),
        ({"attempt": 7}, 403),
        ({"name": "../x"}, 422),
    ],
)
def test_a_release_that_is_not_the_runs_own_is_refused(world: World, changes: dict[str, Any], status: int) -> None:
    run = world.new_run()
    assert ask(world, run, [row(1)], **changes).status_code == status


def test_another_runs_release_is_out_of_reach(world: World) -> None:
    run, other = world.new_run(datasets=("DS-8",)), world.new_run()
    ask(world, run, [row(1)])
    assert slug(other.call("GET", f"/releases/{run.id}/counts", scope="releases close")) == "other-run"
    assert (
        slug(
            other.call(
                "POST",
                f"/releases/{run.id}",
                scope="releases close",
                json={"name": "x", "path": "x", "kind": "allele-counts"},
            )
        )
        == "other-run"
    )
    assert slug(run.call("GET", f"/releases/{run.id}/counts")) == "missing-scope", "Snakemake may not read it either"
    assert len(world.refusals(other.id)) == 2


def test_a_node_that_allows_no_check_releases_nothing(world: World) -> None:
    run = world.new_run()
    try:
        world.policy(releases={"kinds": []})
        assert slug(ask(world, run, [row(1)])) == "forbidden-check"
    finally:
        world.policy()


def test_where_the_node_wants_a_person_to_look_nothing_leaves_before_the_decision(world: World) -> None:
    run, refused = world.new_run(datasets=("DS-9",)), world.new_run(datasets=("DS-10",))
    try:
        world.policy(review=True)
        waiting = ask(world, run, [row(1)])
        assert (
            waiting.status_code == 202
            and waiting.json()["status"] == "awaiting-review"
            and "signature" not in waiting.json()
        )
        assert again(run).status_code == 202 and fetch(run).status_code == 404
        ask(world, refused, [row(1)])
        with world.inside() as inside:
            (mine,) = [w for w in inside.get("/review").json()["waiting"] if w["run"] == run.id]
            wrong = {"sha256": "0" * 64, "reviewer": "dr. who", "approve": True}
            assert inside.post(f"/review/{run.id}/counts", json=wrong).status_code == 404, (
                "the decision is on these bytes"
            )
            assert inside.post(f"/review/{run.id}/counts", json={**wrong, "sha256": mine["sha256"]}).status_code == 204
            (theirs,) = [w for w in inside.get("/review").json()["waiting"] if w["run"] == refused.id]
            assert (
                inside.post(
                    f"/review/{refused.id}/counts", json={**wrong, "sha256": theirs["sha256"], "approve": False}
                ).status_code
                == 204
            )
    finally:
        world.policy()
    assert again(run).status_code == 200 and fetch(run).status_code == 200
    assert slug(again(refused)) == "release-refused" and fetch(refused).status_code == 404
    assert run.call("GET", "/review").status_code == 404, "not at the public port"


def test_where_an_epoch_is_open_a_release_that_counts_other_people_is_refused(world: World, tmp_path: Path) -> None:
    file = tmp_path / "persons.txt"
    file.write_text("".join(f"HG{number}\n" for number in range(80)))
    command = [sys.executable, "-m", "node_gateway.main", "epoch", "open", "DS-11", "--persons", str(file)]
    world.kill()
    try:
        opened = subprocess.run(
            command, env=world.environment(), cwd=world.folder, capture_output=True, text=True, timeout=120
        )
        assert "Epoch 1 of DS-11 is open: 80 people" in opened.stdout, opened.stderr
        file.write_text("".join(f"HG{number}\n" for number in range(79)))
        again = subprocess.run(
            command, env=world.environment(), cwd=world.folder, capture_output=True, text=True, timeout=120
        )
        assert again.returncode == 1 and "1 people of DS-11 left" in again.stderr and "HG" not in again.stderr
    finally:
        world.start()
    run, other = world.new_run(datasets=("DS-11",)), world.new_run(datasets=("DS-11",))
    assert ask(world, run, [row(1), row(2, het=21)]).status_code == 422
    assert slug(ask(world, run, [row(1, hom_ref=49)])) == "other-people"
    assert ask(world, other, [row(1), row(2)]).status_code == 200


def test_what_a_person_refused_did_not_leave_and_is_forgotten_by_the_ledger(world: World) -> None:
    invented, honest = world.new_run(datasets=("DS-12",)), world.new_run(datasets=("DS-12",))
    try:
        world.policy(review=True)
        assert ask(world, invented, [row(1, het=1000)]).status_code == 202
        with world.inside() as inside:
            (case,) = [w for w in inside.get("/review").json()["waiting"] if w["run"] == invented.id]
            decision = {"sha256": case["sha256"], "reviewer": "dr. who", "approve": False, "reason": "invented"}
            assert inside.post(f"/review/{invented.id}/counts", json=decision).status_code == 204
    finally:
        world.policy()
    assert ask(world, honest, [row(1)]).status_code == 200
    assert [r["ac_max"] for r in fetch(honest).json()["sites"]] == [40]


def test_what_is_not_open_is_told_before_anything_runs_and_alike_to_everybody(world: World) -> None:
    def admission(run: Run, **intent: Any) -> Any:
        return run.call("POST", f"/runs/{run.id}/admission", scope="releases close", json=intent)

    run, other, unknown = world.new_run(), world.new_run(), world.new_run(datasets=("XX-1",))
    assert admission(run, kinds=["allele-counts"]).json() == {"admitted": True}
    for intent in ({"cohort": {"epochs": {"DS-A": 9}}}, {"cohort": {"split": "sex", "level": "female"}}):
        answers = [admission(one, **intent) for one in (run, other)]
        assert [slug(answer) for answer in answers] == ["not-open"] * 2
        first, second = ({k: v for k, v in answer.json().items() if k != "instance"} for answer in answers)
        assert first == second
    assert slug(admission(run, kinds=["matrix"])) == "forbidden-check"
    assert slug(admission(unknown)) == "dataset-not-described"
    made = unknown.call("POST", "/ga4gh/tes/v1/tasks", json=unknown.task(inputs=[]))
    assert slug(made) == "dataset-not-described" and not [t for t in world.tes.tasks.values() if unknown.id in str(t)]


def ask_columns(world: World, run: Run, rows: list[dict[str, Any]], **changes: Any) -> Any:
    """The same rows as Parquet."""
    out = io.BytesIO()
    about = json.dumps({"format": parquet.FORMAT})
    pl.DataFrame(rows, schema=parquet.SCHEMA).write_parquet(out, metadata={ABOUT: about})
    world.s3.put(f"{run.id}/release.json", out.getvalue())
    return again(run, **changes)


def columns_of(run: Run) -> pl.DataFrame:
    published = fetch(run)
    assert published.headers["content-type"] == "application/vnd.apache.parquet"
    return pl.read_parquet(published.content)


def test_parquet_is_checked_signed_and_remembered_as_text_is(world: World) -> None:
    run = world.new_run(datasets=("DS-20",))
    told = ask_columns(world, run, [row(1), row(2, het=3, hom_alt=0), row(3, hom_alt=0)])
    assert told.status_code == 200, told.text
    assert (
        told.json()["sites_released"] == 2 and told.json()["sha256"] == hashlib.sha256(fetch(run).content).hexdigest()
    )
    assert columns_of(run)["pos"].to_list() == [1, 3]
    later = world.new_run(datasets=("DS-20",))
    ask(world, later, [row(1), row(2, het=30), row(3, het=30)])
    rows = fetch(later).json()["sites"]
    assert [(one["pos"], one["ac_min"]) for one in rows] == [(1, 40), (3, 20)], "as it left before, and rare before"
    both = world.new_run(datasets=("DS-20", "DS-21"))
    ask_columns(world, both, [row(1, hom_ref=72), row(3, hom_ref=72, het=22, hom_alt=0)])
    found = columns_of(both)
    exact = dict(found.select("pos", pl.col("ac_min") == pl.col("ac_max")).iter_rows())
    assert exact == {1: False, 3: False}, "10 and 2 people of DS-21 carry the allele"
    after = world.new_run(datasets=("DS-20", "DS-21"))
    ask_columns(world, after, [row(1, hom_ref=70), row(3, hom_ref=70, het=30, hom_alt=0), row(9)])
    assert columns_of(after).filter(pl.col("pos") < 9).equals(found)
    wrong = ask_columns(world, world.new_run(datasets=("DS-20",)), [row(3), row(1)])
    assert wrong.status_code == 422 and "not sorted" in wrong.json()["reasons"][0]

    keys = [o["Key"] for o in world.s3.client.list_objects_v2(Bucket="releases", Prefix=run.id)["Contents"]]
    (cells,) = [key for key in keys if key.endswith(".cells.parquet")]
    kept = world.s3.client.get_object(Bucket="releases", Key=cells)["Body"].read()
    world.s3.client.delete_object(Bucket="releases", Key=cells)
    lost = ask(world, world.new_run(datasets=("DS-20",)), [row(4)])
    assert (lost.status_code, slug(lost)) == (503, "ledger-incomplete"), "what cannot be read is not nothing"
    world.s3.client.put_object(Bucket="releases", Key=cells, Body=kept[:-1] + b"x")
    assert slug(ask_columns(world, world.new_run(datasets=("DS-20",)), [row(4)])) == "ledger-incomplete"
    world.s3.client.put_object(Bucket="releases", Key=cells, Body=kept)
    assert ask_columns(world, world.new_run(datasets=("DS-20",)), [row(4)]).status_code == 200


def test_parquet_waits_for_a_person_and_counts_from_the_approval(world: World) -> None:
    run = world.new_run(datasets=("DS-12",))
    assert ask_columns(world, run, [row(1)], review=True).status_code == 202
    other = world.new_run(datasets=("DS-12",))
    assert ask(world, other, [row(2)]).status_code == 200, "what waits has not left"
    with world.inside() as inside:
        (case,) = [one for one in inside.get("/review").json()["waiting"] if one["run"] == run.id]
        decision = {"sha256": case["sha256"], "reviewer": "eve", "approve": True}
        refused = inside.post(f"/review/{run.id}/counts", json=decision)
        assert refused.status_code == 409, "something of these people left meanwhile"
        second = world.new_run(datasets=("DS-13",))
        ask_columns(world, second, [row(1)], review=True)
        (case,) = [one for one in inside.get("/review").json()["waiting"] if one["run"] == second.id]
        decision = {"sha256": case["sha256"], "reviewer": "eve", "approve": True}
        assert inside.post(f"/review/{second.id}/counts", json=decision).status_code == 204
    third = world.new_run(datasets=("DS-13",))
    ask_columns(world, third, [row(1, het=30), row(2)])
    assert columns_of(third)["ac_min"].to_list() == [40, 40]
