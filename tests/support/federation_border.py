"""What may not cross a node's border, and what did, of a federation's runs."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

from gdi.local_federation.cohort import FIXED
from gdi.local_federation.federation import COHORT
from tests.federation.driver import Driver

FLOOR = 5


CLASSES = ("hom_ref", "het", "hom_alt", "hemi_ref", "hemi_alt", "half_missing", "missing")


def leaving(driver: Driver, node: str) -> list[Path]:
    """Recordings of what left the node: the gateway's answers to the centre, and its requests to the broker."""
    border = driver.layout.work / "border"
    return [border / f"{node}-gateway_tap.out", border / f"{node}-broker_tap.in"]


def sample_names() -> list[str]:
    with gzip.open(COHORT, "rt") as file:
        header = next(line for line in file if line.startswith("#CHROM"))
    return header.split()[FIXED:]


def small_counts(row: dict[str, Any]) -> dict[str, int]:
    """What a released row tells of 1 to 4 people: classes of genotypes, which do not leave at all in this format, and
    copies of the allele or of the others, where their bounds leave one number.
    """
    known = {name: row[name] for name in CLASSES if name in row}
    if row["ac_min"] == row["ac_max"]:
        known["ac"] = row["ac_min"]
        if row["an_min"] == row["an_max"]:
            known["an-ac"] = row["an_min"] - row["ac_min"]
    return {name: count for name, count in known.items() if name in CLASSES or 0 < count < FLOOR}


def forbidden(data: bytes, names: list[str]) -> list[str]:
    """What in `data` must not have left a node."""
    found = [f"sample name {n}" for n in names if n.encode() in data]
    found += [f"genotype {m.decode()!r}" for m in re.findall(rb"(?<![0-9./|])[0-9.][|/][0-9.](?:[:\t])", data)[:5]]
    found += [
        "a VCF header"
        for marker in (b"##fileformat=VCFv4.", b"#CHROM\tPOS\tID", rb"#CHROM\tPOS\tID", b"##INFO=<ID=")
        if marker in data
    ]
    found += [
        "a log line" for marker in (b"Building DAG of jobs", b"LOG-LINE-OF-A-TASK", b"Traceback") if marker in data
    ]
    for match in re.finditer(rb'\{"chrom"[^{}]*\}', data):
        if few := small_counts(json.loads(match[0])):
            found.append(f"counts below the floor in {match[0].decode()}: {few}")
    return found
