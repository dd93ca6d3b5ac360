"""Which parts of a file with an index may have the variants asked for: the plan that the node's gateway fetches by,
with the file's header, and beside it where each part begins and ends.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lookup import Variant, wanted
from sections import BLOCK, END, Cut, IndexReader, cuts, index_of
from variants import normal

WINDOW = 1000  # bases before a variant's own place at which a file may begin to write it
Ranges = list[tuple[int, int]]


class Contig(NamedTuple):
    """`bins`: chunks by bin, each from one place of the unpacked file to another; `least`: by bin or, of tabix, by
    window of 16,384 bases, before which place nothing of it lies.
    """

    bins: dict[int, Ranges]
    least: dict[int, int]


class Index(NamedTuple):
    """Smallest bins have 2 to the `shift` bases; `depth` levels lie above them."""

    shift: int
    depth: int
    linear: bool
    contigs: dict[str, Contig]


def read(data: bytes) -> Index:
    """As `sections.cuts`, whose errors it has."""
    reader = IndexReader(data[4:])
    linear, shift, depth = data[:4] == b"TBI\1", 14, 5
    if linear:
        count, *_, length = reader.take("8i")
        names = reader.take(f"{length}s")[0]
    else:
        shift, depth, more = reader.take("3i")
        about = reader.take(f"{more}s")[0]
        names = about[28:] if more >= 28 else b""
        (count,) = reader.take("i")
    meta = ((1 << (3 * (depth + 1))) - 1) // 7 + 1
    contigs: dict[str, Contig] = {}
    for number in range(count):
        contig = Contig({}, {})
        for _ in range(reader.take("i")[0]):
            (bin_,) = reader.take("I")
            if not linear:
                contig.least[bin_] = reader.take("Q")[0]
            chunks = reader.take("i")[0]
            places = reader.take(f"{2 * chunks}Q")
            if bin_ != meta:
                contig.bins[bin_] = list(zip(places[::2], places[1::2], strict=True))
        if linear:
            contig.least.update(enumerate(reader.take(f"{reader.take('i')[0]}Q")))
        contigs[names.split(b"\0")[number].decode()] = contig
    return Index(shift, depth, linear, contigs)


def overlapping(index: Index, contig: Contig, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Chunks that may have records of the bases `[start, end)` (from 0)."""
    leaf = ((1 << (3 * index.depth)) - 1) // 7 + (start >> index.shift)
    least = contig.least.get(start >> 14 if index.linear else leaf, 0)
    for level in range(index.depth + 1):
        first, shift = ((1 << (3 * level)) - 1) // 7, index.shift + 3 * (index.depth - level)
        for bin_ in range(first + (start >> shift), first + ((end - 1) >> shift) + 1):
            yield from ((max(a, least), b) for a, b in contig.bins.get(bin_, ()) if b > least)


def asked(index: Index, variants: Iterable[Variant]) -> Ranges:
    """The chunks of all variants, none touching another."""
    contigs: dict[str, list[Contig]] = {}
    for name, contig in index.contigs.items():
        contigs.setdefault(normal(name, 1, "A", "C")[0], []).append(contig)
    found = sorted(
        chunk
        for name, pos, _, _ in variants
        for contig in contigs.get(name, ())
        for chunk in overlapping(index, contig, max(0, pos - 1 - WINDOW), pos)
    )
    merged: Ranges = []
    for start, end in found:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def plan(known: list[Cut], chunks: Ranges) -> tuple[dict[str, object], list[dict[str, int | None]]]:
    """As `sections.plan`, of one section: the header and the chunks. `known`: where records begin, the first first."""
    if not known:
        return {"format": "gdi-sections/1", "sections": [[[0, None]]]}, [
            {"start": 0, "skip": 0, "length": None, "tail": 0}
        ]
    blocks = sorted({block for block, _ in known})

    def behind(end: int, tail: int) -> int:
        return end if not tail else min(next((other for other in blocks if other > end), end + BLOCK), end + BLOCK)

    parts = [((0, 0), known[0]), *(((a >> 16, a & 0xFFFF), (b >> 16, b & 0xFFFF)) for a, b in chunks)]
    ranges: list[list[int]] = []
    places: list[dict[str, int | None]] = []
    for (block, skip), (end, tail) in parts:
        last = behind(end, tail)
        if ranges and block <= ranges[-1][1]:
            ranges[-1][1] = max(last, ranges[-1][1])
        else:
            ranges.append([block, last])
        before = sum(b - a for a, b in ranges[:-1])
        places.append({"start": before + block - ranges[-1][0], "skip": skip, "length": end - block, "tail": tail})
    return {"format": "gdi-sections/1", "sections": [[*ranges, [-END, None]]]}, places


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("index", type=Path)
    parser.add_argument("plan", type=Path)
    parser.add_argument("places", type=Path)
    parser.add_argument("--variants", required=True, help="JSON: a list of CHROM:POS:REF:ALT")
    options = parser.parse_args()
    variants = wanted(json.loads(options.variants))
    made, places = index_of(options.index, lambda data: plan(cuts(data), asked(read(data), variants)))
    options.plan.write_text(json.dumps(made) + "\n")
    options.places.write_text(json.dumps(places) + "\n")


if __name__ == "__main__":
    main()
