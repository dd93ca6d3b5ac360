"""Beside a release that waits, the node counts a sample of its sites again, by a task of its own that no run sees."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from tests.support.gateway_own_tasks import FILE, execute, own_tasks, waiting  # noqa: F401
from tests.support.gateway_releases import ask, row
from tests.support.gateway_world import Run, World, c4gh, world_fixture  # noqa: F401

PEOPLE = 80


def vcf(folder: Path, copies: dict[int, list[int]]) -> Path:
    """Genotypes of each position, by person."""
    genotypes = {0: "0/0", 1: "0|1", 2: "1/1", -1: "./."}
    lines = ["##fileformat=VCFv4.3", "\t".join(["#CHROM", "POS", *"ABCDEFG", *(f"P{i}" for i in range(PEOPLE))])]
    lines += [
        "\t".join(["chr2", str(pos), ".", "A", "G,C" if pos == 9 else "C", ".", ".", ".", "GT"])
        + "\t"
        + "\t".join((genotypes[n] if pos != 9 else genotypes[n].replace("1", "2")) + ":x" for n in people)
        for pos, people in copies.items()
    ]
    file = folder / "0.vcf.gz"
    file.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    return file


def recount(world: World, run: Run) -> dict[str, Any]:
    with world.inside() as client:
        answer = client.get(f"/review/{run.id}/counts/recount")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


COPIES = {pos: [1] * 20 + [2] * 10 + [0] * 50 for pos in (1, 9)}


def test_an_honest_release_agrees_and_invented_counts_do_not(world: World, tmp_path: Path) -> None:
    for invented in (0, 7):
        run = world.new_run(datasets=("DS-RC",))
        before = len(own_tasks(world))
        assert ask(world, run, [row(1), row(9, het=20 + invented, hom_ref=50 - invented)]).status_code == 202
        task = own_tasks(world)[before]
        assert ask(world, run, [row(1), row(9, het=20 + invented, hom_ref=50 - invented)]).status_code == 202
        assert len(own_tasks(world)) == before + 1, "once for a release"
        assert "counts 2 sites again" in recount(world, run)["sentence"]
        folder = tmp_path / str(invented)
        folder.mkdir()
        execute(world, task, folder, [vcf(tmp_path, COPIES)])
        found = recount(world, run)
        agrees = {site: good for site, _, _, good in found["rows"]}
        assert agrees == {"2:1 A>C": True, "2:9 A>C": not invented}, found
        assert f"of {PEOPLE} people" in found["sentence"] or f"count of {PEOPLE}" in found["sentence"]


def test_no_run_sees_lists_or_reads_the_nodes_own_task(world: World) -> None:
    run = world.new_run(datasets=("DS-RC",))
    ask(world, run, [row(3)])
    task = own_tasks(world)[-1]
    assert run.call("GET", f"/ga4gh/tes/v1/tasks/{task['id']}").status_code in (403, 404)
    assert run.call("POST", f"/ga4gh/tes/v1/tasks/{task['id']}:cancel").status_code in (403, 404)
    assert task["id"] not in run.call("GET", "/ga4gh/tes/v1/tasks").text
    assert run.call("HEAD", f"/workspace/{run.id}/.gdi/recount/1.json").status_code == 404
    result = task["outputs"][0]["url"].removeprefix(f"s3://workspace/{run.id}/")
    world.s3.put(f"{run.id}/{result}", json.dumps({"people": 80, "counts": [[1, 2]]}).encode())
    assert run.call("HEAD", f"/workspace/{run.id}/{result}").status_code == 404
    for path, type_ in ((result, "FILE"), (".gdi/recount", "DIRECTORY"), (".gdi", "DIRECTORY")):
        given = [{"url": f"workspace://{run.id}/{path}", "path": "/gdi/work/x", "type": type_}]
        assert run.call("POST", "/ga4gh/tes/v1/tasks", json=run.task(inputs=given)).status_code == 403, path
    named = run.call("POST", "/ga4gh/tes/v1/tasks", json=run.task(tags={"gdi-job": "own:recount-1", "gdi-try": "1"}))
    assert named.status_code == 422
    (data,) = [one["url"] for one in task["inputs"] if one.get("url")]
    path, _, capability = data.removeprefix("sda://").partition("#")
    assert world.read(f"/s3-encrypted/{path}", capability).status_code == 200
    run.call("POST", f"/runs/{run.id}/close", json={"attempt": 1}, scope="close")
    assert world.read(f"/s3-encrypted/{path}", capability).status_code in (401, 403)
    assert world.tes.tasks[task["id"]]["state"] == "CANCELED"


def test_what_stops_a_recount_is_told_and_stops_no_release(world: World) -> None:
    run = world.new_run(datasets=("DS-RC",))
    world.policy(review=True)
    assert ask(world, run, [row(5)]).status_code == 202 and "own_image" in recount(world, run)["sentence"]
    world.policy(review=True, own_image="node-own@sha256:" + "a" * 64)
    world.sda.files = {}
    run = world.new_run(datasets=("DS-RC",))
    assert ask(world, run, [row(6)]).status_code == 202 and "could not be sent" in recount(world, run)["sentence"]
    world.sda.files = {("DS-RC", FILE): c4gh(3000)}
    run = world.new_run(datasets=("DS-RC",))
    ask(world, run, [row(7)])
    own_tasks(world)[-1]["state"] = "COMPLETE"
    assert "cannot be read" in recount(world, run)["sentence"]
    result = f"{run.id}/.gdi/recount/"
    number = own_tasks(world)[-1]["outputs"][0]["url"].rpartition("/")[2]
    world.s3.put(result + number, json.dumps({"people": 3, "counts": [[1, -1]]}).encode())
    assert "cannot be read" in recount(world, run)["sentence"]
    own_tasks(world)[-1]["state"] = "EXECUTOR_ERROR"
    assert "failed" in recount(world, run)["sentence"]
