"""Cuts a bgzip file into sections at places of its tabix or CSI index: the plan that the node's gateway fetches by, and
beside it where in its section each one begins and ends. Section 0 is the header, the others tile the file.

The index only proposes places. `bgzf.py` finds a section that does not begin or end where a line does, so that a wrong
index ends the run, and never loses a line.
"""

from __future__ import annotations

import argparse
import gzip
import json
import struct
import sys
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, TypeVar

BLOCK = 65_536  # bytes of a bgzip block at most, packed
MOST = 512 * 1024 * 1024  # bytes of an unpacked index
END = 28  # bytes of the last block
T = TypeVar("T")
Cut = tuple[int, int]  # where a record begins: a block's place in the file, and in the unpacked block
NO_PLACE = (0, -1)


class IndexReader:
    """Numbers of an index, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, form: str) -> tuple[Any, ...]:  # whole numbers, or bytes where `form` says so
        found = struct.unpack_from("<" + form, self._data, self._at)
        self.skip(struct.calcsize("<" + form))
        return found

    def skip(self, count: int) -> None:
        if count < 0 or self._at + count > len(self._data):
            raise ValueError("it ends too early")
        self._at += count


def cuts(data: bytes) -> list[Cut]:
    """Where records begin, of what an index says, in order. ValueError or struct.error where it is none (tabix.pdf,
    CSIv1.pdf of hts-specs).
    """
    reader = IndexReader(data[4:])
    tabix = data[:4] == b"TBI\1"
    if tabix:
        contigs, *_ = reader.take("8i")
        reader.skip(struct.unpack_from("<i", data, 32)[0])
        meta = 37_450
    elif data[:4] == b"CSI\1":
        _, depth, more = reader.take("3i")
        reader.skip(more)
        (contigs,) = reader.take("i")
        meta = ((1 << (3 * (depth + 1))) - 1) // 7 + 1
    else:
        raise ValueError("it is neither tabix nor CSI")
    found: set[int] = set()
    for _ in range(contigs):
        for _ in range(reader.take("i")[0]):
            (number,) = reader.take("I")
            if not tabix:
                reader.skip(8)
            chunks = reader.take("i")[0]
            places = reader.take(f"{2 * chunks}Q")
            if number != meta:
                found.update(places[::2])
        if tabix:
            found.update(reader.take(f"{reader.take('i')[0]}Q"))
    found.discard(0)  # of the linear index: nothing
    return sorted((place >> 16, place & 0xFFFF) for place in found)


def sections(found: list[Cut], count: int) -> list[tuple[Cut, Cut]]:
    """Begin and end of the header and of `count` sections; NO_PLACE: the file's end. One that would be empty begins
    there.
    """
    if not found:
        return [((0, 0), NO_PLACE), ((0, 0), NO_PLACE), *[(NO_PLACE, NO_PLACE)] * (count - 1)]
    first, last = found[0], found[-1]
    edges: list[Cut] = [(0, 0)]
    for number in range(1, count):
        target = first[0] + (last[0] - first[0]) * number // count
        edges.append(next((cut for cut in found if cut[0] >= target and cut > max(edges[-1], first)), NO_PLACE))
        if edges[-1] == NO_PLACE:
            edges += [NO_PLACE] * (count - len(edges))
            break
    return [((0, 0), first), *pairwise([*edges, NO_PLACE])]


def plan(
    found: list[Cut], count: int, *, header: bool = False
) -> tuple[dict[str, object], list[dict[str, int | None]]]:
    """The plan `gdi-sections/1`, and of each section: where in its bytes it starts, bytes of its first block that are
    another's (`skip`), where its last block begins (`length`, null: the file's end), and how much of that is its own
    (`tail`). `skip` below zero: nothing is. With `header` each begins with the file's header, as section 0 does.
    """
    blocks = sorted({block for block, _ in found})

    def behind(cut: Cut) -> int:
        """An end of the last block that is needed up to there."""
        end, tail = cut
        return end if not tail else min(next((other for other in blocks if other > end), end + BLOCK), end + BLOCK)

    head = [[0, behind(found[0]) if found else None]]
    ranges: list[list[list[int | None]]] = []
    places: list[dict[str, int | None]] = []
    for number, ((block, skip), (end, tail)) in enumerate(sections(found, count)):
        before = head if header and number and found else []
        start = min(block, before[0][1] or 0) if before else 0
        if skip < 0:
            ranges.append([*before, [-END, None]])
            places.append({"start": 0, "skip": -1, "length": 0, "tail": 0})
        elif (end, tail) == NO_PLACE:
            ranges.append([*before, [block, None]])
            places.append({"start": start, "skip": skip, "length": None, "tail": 0})
        else:
            ranges.append([*before, [block, behind((end, tail))]])
            places.append({"start": start, "skip": skip, "length": end - block, "tail": tail})
    return {"format": "gdi-sections/1", "sections": ranges}, places


def wrong(why: str) -> NoReturn:
    """Ends with 1."""
    print(f"the index cannot be read: {why}", file=sys.stderr)
    print("GDI-ERROR class=WrongIndex", file=sys.stderr)
    sys.exit(1)


def index_of(file: Path, use: Callable[[bytes], T]) -> T:
    """What `use` makes of an index; ends with 1 where it is none."""
    try:
        with gzip.open(file) as opened:
            data = opened.read(MOST + 1)
        if len(data) > MOST:
            raise ValueError(f"it has more than {MOST} bytes")
        return use(data)
    except (OSError, EOFError, zlib.error, struct.error, IndexError) as error:
        wrong(type(error).__name__)
    except ValueError as error:
        wrong(str(error))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("index", type=Path)
    parser.add_argument("plan", type=Path)
    parser.add_argument("places", type=Path)
    parser.add_argument("--sections", type=int, required=True)
    parser.add_argument("--header", action="store_true", help="each section with the file's header")
    options = parser.parse_args()
    found = index_of(options.index, cuts)
    made, places = plan(found, options.sections, header=options.header)
    options.plan.write_text(json.dumps(made) + "\n")
    options.places.write_text(json.dumps(places) + "\n")


if __name__ == "__main__":
    main()
