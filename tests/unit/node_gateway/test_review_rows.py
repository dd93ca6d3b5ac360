"""Where the recount's sample is taken from: everywhere in the release, not only where its author knows of."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from gdi.releases.allele_counts.column_check import SCHEMA
from gdi.releases.allele_counts.node import AlleleCountsNode
from node_gateway.review.rows import spread

ROWS = 5000
SHARES = [0.0, 0.31, 0.5, 0.77, 0.9999]


@pytest.fixture(params=["text", "columns"])
def release(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    values = ["2", 1, "A", "C", 20, 20, 100, 100, "", ""]
    rows = [dict(zip(SCHEMA, values, strict=True)) | {"pos": pos} for pos in range(1, ROWS + 1)]
    file = tmp_path / "release"
    if request.param == "columns":
        pl.DataFrame(rows, schema=SCHEMA).write_parquet(file)
    else:
        lines = ",\n".join(json.dumps(row) for row in rows)
        file.write_text('{"format":"x","unlisted":{},"sites":[\n' + lines + '\n],"withheld":{}}\n')
    return file


def test_rows_are_from_everywhere(release: Path) -> None:
    places = [int(row[1]) for row in spread(AlleleCountsNode(), release, SHARES, 100)]
    assert len(places) == len(set(places)) == 500
    assert min(places) == 1 and max(places) == ROWS
    assert all(any(abs(place - share * ROWS) <= 100 for place in places) for share in SHARES)


def test_of_a_short_release_all_rows_are_looked_at(release: Path) -> None:
    assert len(spread(AlleleCountsNode(), release, SHARES, 1001)) == ROWS
