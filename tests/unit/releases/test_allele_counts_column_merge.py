"""Nodes' releases in columns are added up as those of version 1: the same table, over any windows."""

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gdi.releases.allele_counts import column_merge, merge
from gdi.releases.allele_counts.column_answer import AlleleCountsAnswer
from gdi.releases.allele_counts.column_check import RELEASED, SCHEMA
from gdi.releases.columns import ABOUT
from gdi.releases.kind import BadReleaseError

Row = dict[str, Any]


def release(chance: random.Random) -> dict[str, Any]:
    """Rows of a node by place, with intervals; of a few sites it contradicts itself about the calls."""
    found: dict[tuple[str, int, str, str], Row] = {}
    for _ in range(120):
        place = chance.choice(["1", "2", "10", "X"]), chance.randint(1, 30), chance.choice("AC")
        an = chance.choice([100, 100, 90])
        for alt in chance.sample(["G", "T", "GG"], chance.choice([1, 1, 2])):
            ac = chance.randint(0, 80)
            row = {"ac_min": ac, "ac_max": ac, "an_min": an, "an_max": an, "reason": ""}
            if chance.random() < 0.3:
                row |= {"ac_max": ac + 8, "reason": chance.choice(["small", "missing"])}
            if chance.random() < 0.2:
                row["an_max"] = an + 10
            found[*place, alt] = row
    rows = [dict(zip(("chrom", "pos", "ref", "alt"), key, strict=True)) | found[key] for key in sorted(found)]
    unlisted = {"ac_max": chance.choice([8, 120]), "an_max": 120, "reason": chance.choice(["small", "missing"])}
    return {"unlisted": unlisted, "sites": rows}


def as_parquet(file: Path, one: dict[str, Any]) -> Path:
    about = {"format": RELEASED, "unlisted": one["unlisted"], "withheld": {}}
    rows = [row | {"rare": ""} for row in one["sites"]]
    pl.DataFrame(rows, schema=SCHEMA).write_parquet(file, metadata={ABOUT: json.dumps(about)})
    return file


def as_json(one: dict[str, Any]) -> bytes:
    return json.dumps({"format": "gdi-allele-counts-released/1", **one}).encode()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("step", [3, 10_000])
def test_columns_add_up_to_what_rows_do(seed: int, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    nodes = [f"n{n}" for n in range(1 + seed % 4)]
    releases = {node: release(chance) for node in nodes}
    expected = merge.merge({n: merge.parse(n, as_json(one)) for n, one in releases.items()}, nodes)
    files = {n: as_parquet(tmp_path / n, one) for n, one in releases.items()}
    consistent = [one for one in releases["n0"]["sites"]]
    if seed == 2 and len({(r["chrom"], r["pos"], r["ref"]) for r in consistent}):  # a node of version 1 among others
        files["n0"].write_bytes(as_json(releases["n0"]))
    monkeypatch.setattr(column_merge, "BATCH", step)
    monkeypatch.setattr(column_merge, "LEAST_STEP", min(step, 4096))
    rows, withheld = AlleleCountsAnswer().merge(files, nodes, tmp_path / "answer")
    assert (rows, withheld) == (len(expected), sum(one.withheld for one in expected))
    found = pl.read_parquet(tmp_path / "answer").rows()
    for row, one in zip(found, expected, strict=True):
        numbers = (one.count, one.total, one.af, len(one.nodes), *one.ac, *one.an, ",".join(one.reasons))
        assert row == (one.chrom, one.pos, one.ref, one.alt, *numbers)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["answer", *nodes])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ac_min": 30}, "an interval ends"),
        ({"an_max": 2**60}, "too large"),
        ({"reason": "because"}, "its reason"),
        ({"alt": "<script>"}, "alt is not of the form"),
        ({"pos": 4}, "not sorted"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_bad_release_names_node_and_row(change: Row, why: str, tmp_path: Path) -> None:
    row = {"chrom": "1", "pos": 5, "ref": "A", "alt": "C", "ac_min": 9, "ac_max": 9, "an_min": 50, "an_max": 50}
    sites = [row | {"reason": ""}, row | {"pos": 6, "reason": ""} | change]
    file = as_parquet(tmp_path / "f", {"unlisted": {"ac_max": 8, "an_max": 50, "reason": "small"}, "sites": sites})
    with pytest.raises(BadReleaseError, match=f"of n1 are not of their format: row 2: .*{why}"):
        AlleleCountsAnswer().merge({"n1": file}, ["n1"], tmp_path / "answer")
