"""Projects each person of a dataset on given loadings and takes the nearest cluster: the sum over variants of loading
times (copies - 2p) / sqrt(2p(1 - p)), p the reference's frequency; who is not called counts as the mean. Stays at the
node.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from genotypes import chromosome, copies, sample_table
from vcf import Record, VcfError, fail, read

LEAST, LARGEST = 100, 0.1  # variants of a component, and the part that one may have in the sum of its squares
OTHER_STRAND = str.maketrans("ACGT", "TGCA")
UNASSIGNED = "unassigned"


class Loading(NamedTuple):
    chrom: str
    pos: int
    counted: str
    other: str
    frequency: float
    components: tuple[float, ...]


class Cluster(NamedTuple):
    """People within `radius` of the centre, of those nearest to it."""

    name: str
    radius: float
    centre: tuple[float, ...]


def loadings(path: Path) -> list[Loading]:
    """VcfError `LoadingsError` naming the line."""
    found = []
    for number, cells in _rows(path, ["chrom", "pos", "counted", "other", "frequency"]):
        try:
            one = Loading(
                chromosome(cells[0]), int(cells[1]), *cells[2:4], float(cells[4]), tuple(map(float, cells[5:]))
            )
        except ValueError:
            raise VcfError("LoadingsError", number, "a place, frequency or loading is no number") from None
        if not 0 < one.frequency < 1:
            raise VcfError("LoadingsError", number, "a frequency must lie between 0 and 1")
        if one.counted.translate(OTHER_STRAND) == one.other:
            raise VcfError("LoadingsError", number, "of A/T and C/G variants the strand cannot be told: leave them out")
        found.append(one)
    squares = np.array([one.components for one in found]) ** 2
    if len(found) < LEAST or (squares.max(axis=0) > LARGEST * squares.sum(axis=0)).any():
        raise VcfError("LoadingsError", 1, f"a component needs {LEAST} variants, none with over {LARGEST:.0%} of it")
    return found


def clusters(path: Path, components: int) -> list[Cluster]:
    """VcfError `LoadingsError` naming the line."""
    found = []
    for number, cells in _rows(path, ["cluster", "radius"]):
        try:
            found.append(Cluster(cells[0], float(cells[1]), tuple(map(float, cells[2:]))))
        except ValueError:
            raise VcfError("LoadingsError", number, "a radius or a place is no number") from None
        if len(found[-1].centre) != components:
            raise VcfError("LoadingsError", number, "clusters and loadings have different components")
    return found


def _rows(path: Path, names: list[str]) -> list[tuple[int, list[str]]]:
    lines = [(n, line.split("\t")) for n, line in enumerate(path.read_text().splitlines(), 1) if line[:1] != "#"]
    if not lines or lines[0][1][: len(names)] != names:
        raise VcfError("LoadingsError", 1, f"the columns must be {' '.join(names)} and the components")
    width = len(lines[0][1])
    if wrong := [number for number, cells in lines[1:] if len(cells) != width]:
        raise VcfError("LoadingsError", wrong[0], f"it has not {width} columns")
    return lines[1:]


def project(vcf: Path, wanted: list[Loading]) -> tuple[list[str], np.ndarray, int]:
    """Names, places (people by components), and how many variants the file has."""
    by_place: dict[tuple[str, int], list[Loading]] = {}
    for one in wanted:
        by_place.setdefault((one.chrom, one.pos), []).append(one)
    names, places, used = list[str](), np.zeros((0, 0)), set[Loading]()
    for found in read(vcf):
        if not isinstance(found, Record):
            names, places = found, np.zeros((len(found), len(wanted[0].components)))
            continue
        if found.why:
            continue
        for one in by_place.get((chromosome(found.chrom), found.pos), ()):
            allele = None if one in used else number_of(one, found.ref, found.alts)
            counted = None if allele is None else copies(found, allele)
            if counted is None:
                continue
            scaled = (counted - 2 * one.frequency) / (2 * one.frequency * (1 - one.frequency)) ** 0.5
            places += np.outer(np.nan_to_num(scaled), one.components)
            used.add(one)
    return names, places, len(used)


def number_of(one: Loading, ref: str, alts: list[str]) -> int | None:
    """The number of the counted allele at this site, also where the file counts on the other strand."""
    alleles = [ref, *alts]
    for counted, other in (
        (one.counted, one.other),
        (one.counted.translate(OTHER_STRAND), one.other.translate(OTHER_STRAND)),
    ):
        if counted in alleles and other in alleles:
            return alleles.index(counted)
    return None


def nearest(place: np.ndarray, among: list[Cluster]) -> str:
    distances = [float(np.linalg.norm(place - np.array(one.centre))) for one in among]
    best = int(np.argmin(distances))
    return among[best].name if distances[best] <= among[best].radius else UNASSIGNED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vcf", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("loadings", type=Path)
    parser.add_argument("clusters", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--question", required=True, help="JSON: {person, columns, least}")
    options = parser.parse_args()
    question = json.loads(options.question)
    try:
        wanted = loadings(options.loadings)
        among = clusters(options.clusters, len(wanted[0].components))
        names, places, used = project(options.vcf, wanted)
        if used < question["least"] * len(wanted):
            raise VcfError("TooFewVariants", 1, "the dataset has too few of the loadings' variants")
        columns = sample_table(options.samples, question["person"], question["columns"])
    except VcfError as error:
        fail(error)
    nobody = [""] * len(question["columns"])
    rows = [
        [nearest(place, among), *(level or "unknown" for level in columns.get(name, nobody))]
        for name, place in zip(names, places, strict=True)
    ]
    people = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    options.out.write_text(json.dumps({"people": people, "rows": rows}) + "\n")


if __name__ == "__main__":
    main()
