"""An answer in columns: made of nodes' Parquet releases, shown in pages, taken away as Parquet and TSV.gz."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gdi.releases.allele_counts.column_check import RELEASED, SCHEMA
from gdi.releases.columns import ABOUT, AnswerSpan
from gdi.releases.kind import BadReleaseError, Size
from gdi.releases.registry import kind_of
from gdi_operators.gather import keep, merge
from gdi_operators.results import answer
from gdi_operators.results.folder import Kept, Results
from tests.support.results_kit import told

KIND = kind_of("allele-counts")


def release(file: Path, rows: list[dict[str, Any]]) -> Path:
    about = {"format": RELEASED, "unlisted": {"ac_max": 8, "an_max": 100, "reason": "small"}, "withheld": {}}
    frame = pl.DataFrame(rows, schema=SCHEMA).sort("chrom", "pos")
    frame.write_parquet(file, metadata={ABOUT: json.dumps(about)})
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "a": release(tmp_path / "a", [told(n, 10 + n % 80, 100, chrom=c) for c in ("10", "2") for n in range(1, 1500)]),
        "b": release(tmp_path / "b", [told(n, 20, 100, chrom=c) for c in ("10", "2") for n in range(1, 1500) if n % 7]),
    }
    kept = {
        node: keep.release(tmp_path / "run", node, "counts", ".json", lambda into, file=file: file.replace(into))  # type: ignore[misc]
        for node, file in files.items()
    }
    assert kept["a"] == tmp_path / "run/releases/a/counts.parquet"
    assert sorted(path.name for path in kept["a"].parent.iterdir()) == ["counts.parquet"]
    size = merge.answer(KIND, kept, ["a", "b"], tmp_path / "run", title="Frequencies")
    assert size == Size(2 * 1499, 2 * 214)
    return tmp_path / "run"


def test_the_same_table_as_parquet_tsv_and_tsv_gz(folder: Path) -> None:
    text = (folder / "answer.tsv").read_bytes()
    assert gzip.decompress((folder / "answer.tsv.gz").read_bytes()) == text
    lines = text.decode().splitlines()
    assert lines[0].split("\t") == pl.read_parquet(folder / "answer.parquet").columns
    assert lines[1] == "2\t1\tA\tG\t31\t200\t0.155\t2\t31\t31\t200\t200\t"
    assert lines[7] == "2\t7\tA\tG\t\t\t\t1\t17\t25\t100\t200\tsmall"
    assert (folder / "answer.png").read_bytes().startswith(b"\x89PNG")
    mine = Kept(node="a", name="counts", sha256="0" * 64, bytes=1, signature="x", sites_released=1, suffix=".parquet")
    assert mine.file == "releases/a/counts.parquet"
    assert {"answer.parquet", "answer.tsv.gz", "answer.tsv"} <= set(Results(folder).files())


def test_pages_and_regions_of_it(folder: Path) -> None:
    file = folder / "answer.parquet"
    page = answer.read(file, "allele-counts").model_dump()
    assert (page["total"], len(page["rows"]), page["regions"], page["unit"]) == (2998, 1000, ["2", "10"], "allele")
    assert (page["withheld"], page["missing"], sum(page["histogram"])) == (428, 0, 2570)
    text = answer.read(folder / "answer.tsv", "allele-counts").model_dump()
    assert page == text | {name: page[name] for name in ("rows", "regions", "points")}
    last = answer.rows(file, "allele-counts", 2995, 200, None)
    assert (last.total, [row[1] for row in last.rows]) == (2998, [1497, 1498, 1499])
    near = answer.rows(file, "allele-counts", 1, 2, AnswerSpan("10", 5, 8))
    assert (near.total, [row[:2] for row in near.rows]) == (4, [["10", 6], ["10", 7]])
    assert answer.rows(file, "allele-counts", 0, 5, AnswerSpan("3", 0, 10**9)).total == 0
    assert answer.rows(file, "allele-counts", 10**9, 5, None).rows == []
    file.write_bytes(b"PAR1 no more")
    with pytest.raises(ValueError, match="cannot be read"):
        answer.rows(file, "allele-counts", 0, 5, None)
    with pytest.raises(ValueError, match="cannot be read"):
        answer.read(file, "allele-counts")


def test_a_bad_release_leaves_no_answer(tmp_path: Path) -> None:
    bad = release(tmp_path / "a", [told(1, 60, 50)])
    (tmp_path / "answer.tsv").write_text("of an earlier try")
    with pytest.raises(BadReleaseError, match="of a are not of their format: row 1"):
        merge.answer(KIND, {"a": bad}, ["a"], tmp_path, title="")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
