"""Counts that are put together piece by piece give the release of all at once, whatever the files hold."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.allele_counts import modules

NAMES = ("pieces", "gather", "vcf", "variants", "bgzf")
CLASSES = ("hom_ref", "het", "hom_alt", "hemi_ref", "hemi_alt", "half_missing", "missing")
PEOPLE = 6


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    with modules(*NAMES) as found:
        yield found


@st.composite
def lines(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A record's rows, without the number of its line."""
    place = {
        "chrom": draw(st.sampled_from(["2", "chr2", "X", "10"])),
        "pos": draw(st.integers(1, 30)),
        "ref": draw(st.text("AC", min_size=1, max_size=9)),
    }
    alts = draw(st.lists(st.text("AC", min_size=1, max_size=9) | st.just("<DEL>"), min_size=1, max_size=3))
    if draw(st.integers(0, 9)) == 0:
        return [place | {"alts": alts, "why": draw(st.sampled_from(["polyploid", "breakend", "beside-unnamed"]))}]
    rows = []
    for alt in draw(st.sampled_from([alts, ["."]])):
        het = draw(st.integers(0, 2))
        missing = draw(st.sampled_from([0, 0, 0, 1]))
        classes = dict.fromkeys(CLASSES, 0) | {"het": het, "hom_ref": PEOPLE - het - missing, "missing": missing}
        rows.append(place | {"alt": alt, "ac": het, "an": 2 * (PEOPLE - missing)} | classes)
    return rows


def written(files: list[list[list[dict[str, Any]]]], folder: Path) -> list[Path]:
    """Two files of the first dataset, the others of one each."""
    found = []
    for number, records in enumerate(files):
        found.append(folder / f"d{max(0, number - 1)}" / f"{number}.0.jsonl")
        found[-1].parent.mkdir(exist_ok=True)
        rows = [row | {"line": line} for line, record in enumerate(records, start=1) for row in record]
        text = "".join(json.dumps(row) + "\n" for row in [*rows, {"lines": len(records)}])
        found[-1].write_text(text)
    return found


@given(
    files=st.lists(st.lists(lines(), max_size=12), min_size=1, max_size=4),
    reference=st.sets(st.sampled_from(["d0", "d1", "d2"])),
    most=st.integers(1, 8),
)
@settings(max_examples=150, deadline=None)
def test_pieces_give_the_release_of_all_lines_at_once(
    scripts: Any, files: list[list[list[dict[str, Any]]]], reference: set[str], most: int
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripts.pieces, "ZONE", 1)
        pieces = scripts.pieces.Pieces(written(files, Path(name)), most)
        whole, apart = Counter[str](), Counter[str]()
        rows = list(scripts.gather.gathered(pieces.all(), pieces.people, reference, whole))
        found = [row for piece in scripts.gather.by_position(pieces, reference, apart) for row in piece]
    assert found == sorted(rows, key=lambda row: [row[name] for name in scripts.gather.NAMES])
    assert apart == whole


def test_a_piece_holds_no_more_lines_than_it_may_where_they_can_be_cut(scripts: Any, tmp_path: Path) -> None:
    file = tmp_path / "d" / "0.jsonl"
    file.parent.mkdir()
    row = dict.fromkeys(CLASSES, 0) | {"chrom": "2", "ref": "A", "alt": "C", "ac": 2, "an": 12, "hom_ref": 5}
    bases = 2**scripts.pieces.ZONE
    file.write_text("".join(json.dumps(row | {"line": n, "pos": n * bases}) + "\n" for n in range(1, 101)))
    pieces = scripts.pieces.Pieces([file], 7)
    sizes = [len(list(pieces.read(piece))) for piece in pieces.of("2")]
    assert sizes == [7] * 14 + [2]
    assert pieces.lines == 100 and pieces.people == {"d": 5}
