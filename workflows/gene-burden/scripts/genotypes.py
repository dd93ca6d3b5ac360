"""Everybody's alleles at a record, as numbers by numpy. Each workflow that works on genotypes carries this file, equal
byte for byte.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from no_value import NO_VALUE
from vcf import Record, VcfError, pairs

MISSING, HAPLOID = -1, -2
MAX_BYTES = 1024**3
PARS = ((60001, 2699520), (10001, 2781479), (154931044, 155260560), (155701383, 156030895))
"""Where X pairs with Y: in GRCh37 and GRCh38, both ends included."""


def alleles(record: Record) -> tuple[np.ndarray, np.ndarray] | None:
    """The numbers of everybody's first and second allele, MISSING where one is not called; the second is HAPLOID where
    there is none. None where somebody has more than two. VcfError for what is no genotype.
    """
    letters = pairs(record)
    if letters is not None:
        first, second = (np.where(one == ord("."), MISSING, one.astype(np.int16) - ord("0")) for one in letters)
    else:
        cells = record.genotypes.split("\t")
        first, second = np.full(len(cells), MISSING, np.int16), np.full(len(cells), MISSING, np.int16)
        for n, cell in enumerate(cells):
            fields = cell.split(":")
            text = fields[record.gt] if 0 <= record.gt < len(fields) else "."
            found = text.lstrip("|/").replace("|", "/").split("/")
            if len(found) > 2:
                return None
            if any(one != "." and not (one.isascii() and one.isdigit() and len(one) < 5) for one in found):
                raise VcfError("VcfFormatError", record.line, "it has a column that is no genotype")
            numbers = [MISSING if one == "." else int(one) for one in found]
            first[n] = numbers[0]
            second[n] = numbers[1] if len(numbers) == 2 else MISSING if numbers[0] == MISSING else HAPLOID
    if max(first.max(initial=0), second.max(initial=0)) > len(record.alts):
        raise VcfError("VcfFormatError", record.line, "a genotype names an allele that the site does not have")
    return first, second


def copies(record: Record, allele: int = 1) -> np.ndarray | None:
    """How often everybody has the allele, NaN where a person is not wholly called; None as `alleles`, and where a call
    is haploid.
    """
    found = alleles(record)
    if found is None or (found[1] == HAPLOID).any():
        return None
    first, second = found
    called = (first != MISSING) & (second != MISSING)
    return np.where(called, (first == allele).astype(float) + (second == allele), np.nan)


def chromosome(chrom: str) -> str:
    """`7`, `X`, `Y`, `MT`, without `chr`."""
    name = chrom[3:] if chrom[:3].lower() == "chr" else chrom
    return {"23": "X", "24": "Y", "M": "MT"}.get(name.upper(), name.upper())


def sample_table(file: Path, person: str, columns: list[str]) -> dict[str, list[str]]:
    """By person, the values of the columns, empty where there is none. VcfError `SampleTableError` naming the line;
    nothing of the content.
    """

    def wrong(line: int, why: str) -> VcfError:
        return VcfError("SampleTableError", line, why)

    found: dict[str, list[str]] = {}
    if file.stat().st_size > MAX_BYTES:
        raise wrong(1, f"the sample table is larger than {MAX_BYTES} bytes")
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            rows = csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
            heading = next(rows, [])
            if any(heading.count(name) != 1 for name in (person, *columns)):
                raise wrong(1, "a column asked for is not in the heading, or twice")
            who, *at = [heading.index(name) for name in (person, *columns)]
            for row in rows:
                if row and len(row) != len(heading):
                    raise wrong(rows.line_num, f"{len(row)} columns instead of {len(heading)}")
                if row and (not row[who] or row[who] in found):
                    raise wrong(rows.line_num, "the person has no id, or is there twice")
                if row:
                    values = [row[i].strip() for i in at]
                    found[row[who]] = ["" if value in NO_VALUE else value for value in values]
    except (UnicodeDecodeError, csv.Error):
        raise wrong(1, "the sample table is no UTF-8 text separated by tabs") from None
    return found
