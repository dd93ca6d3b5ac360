"""The node lists a dataset's persons by a task of its own, and the operator's commands open an epoch of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import polars as pl

from tests.support.gateway_own_tasks import execute, own_tasks, waiting  # noqa: F401
from tests.support.gateway_world import World, c4gh, world_fixture  # noqa: F401


def genotyped(folder: Path, people: int, twin: bool = False, name: str = "P") -> Path:
    """A VCF of 300 common sites; with `twin` the last person is the first again."""
    random = Random(7)
    lines = ["##fileformat=VCFv4.3", "\t".join(["#CHROM", "POS", *"ABCDEFG", *(f"{name}{i}" for i in range(people))])]
    for pos in range(1, 301):
        cells = [random.choice(("0/0", "0/1", "0|1", "1/1")) for _ in range(people)]
        cells[-1] = cells[0] if twin else cells[-1]
        lines.append("\t".join(["1", str(pos), ".", "A", "C", ".", ".", ".", "GT", *cells]))
    file = folder / "people.vcf"
    file.write_text("\n".join(lines) + "\n")
    return file


def operator(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    """`node-gateway epoch …`, as the node's operator gives it while the gateway runs."""
    argv = [sys.executable, "-m", "node_gateway.main", "epoch", *words]
    return subprocess.run(argv, env=world.environment(), capture_output=True, text=True, timeout=120, cwd=world.folder)


def ask(world: World, method: str, path: str, **body: Any) -> str:
    """What the operator's command asks and reads."""
    with world.inside() as client:
        answer = client.request(method, f"/epochs/{path}", json=body)
    return str(answer.json().get("sentence") or answer.json()["detail"])


def listed(world: World, dataset: str, folder: Path, files: list[Path]) -> dict[str, Any]:
    """The task, sent and ended."""
    assert f"files of {dataset}" in ask(world, "POST", f"{dataset}/persons")
    task = own_tasks(world)[-1]
    assert "No result yet" in ask(world, "GET", f"{dataset}/persons")
    folder.mkdir()
    execute(world, task, folder, files)
    return task


def test_the_node_lists_a_datasets_persons_by_a_task_of_its_own_and_opens_an_epoch(
    world: World, tmp_path: Path
) -> None:
    world.describe("PL-1")
    world.sda.files = {("PL-1", "a.vcf.c4gh"): c4gh(3000)}
    world.sda.open = world.sda.open | {"PL-1"}
    assert "no finished list" in ask(world, "POST", "PL-1", dry_run=True)
    task = listed(world, "PL-1", tmp_path / "twin", [genotyped(tmp_path, 40, twin=True)])
    (data,) = [one["url"] for one in task["inputs"] if one.get("url")]
    path, _, capability = data.removeprefix("sda://").partition("#")
    assert world.read(f"/s3-encrypted/{path}", capability).status_code == 200, "by the node's own account"
    for found in (ask(world, "GET", "PL-1/persons"), ask(world, "POST", "PL-1", dry_run=True)):
        assert "duplicate-people: 1 pairs" in found and "P0 and P39" in found
    assert world.read(f"/s3-encrypted/{path}", capability).status_code == 401, "the task has ended"
    task = listed(world, "PL-1", tmp_path / "good", [genotyped(tmp_path, 40)])
    assert ask(world, "GET", "PL-1/persons") == "40 people, none of them twice."
    would = operator(world, "open", "PL-1", "--listed", "--dry-run")
    assert "would open" in would.stdout, would.stderr
    assert "Epoch 1 of PL-1 is open: 40 people" in ask(world, "POST", "PL-1")
    url = task["outputs"][0]["url"].removeprefix("s3://workspace/")
    assert not world.s3.client.list_objects_v2(Bucket="workspace", Prefix=url).get("Contents"), "the list is gone"
    assert "P0" not in world.log.read_text()
    again = operator(world, "open", "PL-1", "--listed")
    assert again.returncode != 0 and "used before" in again.stderr


def test_a_sample_table_that_names_others_than_the_files_opens_nothing(world: World, tmp_path: Path) -> None:
    samples = {"file": "people.tsv.c4gh", "format": "tsv", "person": "person", "sex": {"column": "sex"}}
    world.describe("PL-2", samples=samples, splits=["sex"], identifiers=None)
    world.sda.open = world.sda.open | {"PL-2"}
    world.sda.files = {("PL-2", "a.vcf.c4gh"): c4gh(3000), ("PL-2", "people.tsv.c4gh"): c4gh(3000)}
    table, files = tmp_path / "people.tsv", genotyped(tmp_path, 42, name="Q")
    for people, parquet, sentence in (
        (43, False, "has 1 that they have not"),
        (42, False, "each with a row of the sample table"),
        (41, True, "lacks 1 people"),
        (42, True, "each with a row of the sample table"),
    ):
        rows = {
            "person": [f"Q{i}" for i in range(people)],
            "sex": ["female" if i % 2 else "male" for i in range(people)],
        }
        frame = pl.DataFrame(rows)
        frame.write_parquet(table) if parquet else frame.write_csv(table, separator="\t")
        listed(world, "PL-2", tmp_path / f"{people}-{parquet}", [files, table])
        assert sentence in ask(world, "GET", "PL-2/persons")
    assert "sex=female: 21 people" in ask(world, "POST", "PL-2", dry_run=True)


def test_without_an_account_at_the_archive_or_an_image_nothing_is_sent(world: World) -> None:
    world.describe("PL-3")
    world.sda.open = world.sda.open | {"PL-3"}
    world.sda.files = {("PL-3", "a.vcf.c4gh"): c4gh(3000)}
    token = world.folder / "archive-token"
    good = token.read_bytes()
    try:
        token.write_bytes(b"another")
        assert "archive" in ask(world, "POST", "PL-3/persons").lower()
        token.unlink()
        assert "ARCHIVE_TOKEN_FILE" in ask(world, "POST", "PL-3/persons")
    finally:
        token.write_bytes(good)
        token.chmod(0o600)
    world.policy()
    assert "own_image" in ask(world, "POST", "PL-3/persons")
    assert "no descriptor of its own" in ask(world, "POST", "DS-A/persons")
