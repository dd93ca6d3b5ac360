"""An answer of allele counts as the files of GDI's frequency Beacon, which the GDI mini-node loads: below
`DATASET/ASSEMBLY/` a file `allele-freq-chrN.K.parquet` for each 10,000,000 positions, and `DATASET/metadata.yaml`.

Source: GenomicDataInfrastructure/gdi-mini-node, `parquet-writer` and README. POS is the VCF's position less one.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gdi.contracts.descriptor import Descriptor
from gdi.releases.answer import MISSING_NODES

if TYPE_CHECKING:
    import polars as pl

GROUP = 10_000_000  # positions of a file
CHROMOSOME = r"^(?:[1-9]|1[0-9]|2[0-2]|X|Y|M)$"
POPULATION = re.compile(r"[A-Z]{2}(_[MF])?")
CLASSES = {"AC_HET": ("het", 1), "AC_HOM": ("hom_alt", 2), "AC_HEMI": ("hemi_alt", 1)}
"""Copies of the alternate allele among heterozygous, homozygous and haploid people: a class, and copies of each."""


class BeaconFilesError(Exception):
    """No files were written. The text says why, and what to do."""


def write(answers: Mapping[str, Path], described: Descriptor, folder: Path, provider: str, catalog: str) -> int:
    """Writes the files of a dataset below `folder`, over those that are there; how many rows. `answers` by population
    (`XX`, `XX_M`, `XX_F`): answers of allele-frequency of this dataset alone, as `answer.parquet`, `answer.tsv` or
    `answer.tsv.gz`, or a node's release in Parquet, which may have genotype classes. Only exact counts are written.
    BeaconFilesError.
    """
    import polars as pl

    if described.membership != "public" or described.decision is None:
        raise BeaconFilesError(
            f"The frequencies of {described.dataset} are not public: its descriptor says membership:"
            f" {described.membership}. A Beacon gets what the access committee decided to publish."
        )
    if not described.exact or described.assembly not in ("GRCh37", "GRCh38"):
        raise BeaconFilesError("The descriptor must be of one dataset, of assembly GRCh37 or GRCh38.")
    if wrong := [name for name in answers if not POPULATION.fullmatch(name)]:
        raise BeaconFilesError(f"{wrong[0]!r} is no population: two capitals, and _M or _F for men or women.")
    place = folder / described.dataset / described.assembly
    place.mkdir(parents=True, exist_ok=True)
    found = [_rows(pl, file).with_columns(POPULATION=pl.lit(name)) for name, file in sorted(answers.items())]
    rows = pl.concat(found)
    kept, total = set(), 0
    try:
        groups = rows.select("CHROM", K=pl.col("POS") // GROUP).unique().sort("CHROM", "K").collect().rows()
        for chrom, number in groups:
            mine = rows.filter((pl.col("CHROM") == chrom) & (pl.col("POS") // GROUP == number)).collect()
            mine = mine.select(list(_schema(pl))).sort("POS", "REF", "ALT", "POPULATION")
            if mine.select("POS", "REF", "ALT", "POPULATION").is_duplicated().any():
                raise BeaconFilesError(f"An allele of chromosome {chrom} is there twice.")
            name = f"allele-freq-chr{chrom}.{number}.parquet"
            draft = place / f".{name}"
            mine.write_parquet(draft, compression="zstd", compression_level=19)
            draft.replace(place / name)
            kept.add(name)
            total += len(mine)
    except pl.exceptions.PolarsError as error:
        raise BeaconFilesError(f"An answer cannot be read ({type(error).__name__}).") from None
    for file in place.glob("allele-freq-chr*.parquet"):  # of an earlier answer: a withdrawn number must go
        if file.name not in kept:
            file.unlink()
    _describe(described, place.parent / "metadata.yaml", total, provider, catalog)
    return total


def _schema(polars: Any) -> dict[str, Any]:  # polars is heavy: only here
    texts = dict.fromkeys(("REF", "ALT", "VT", "POPULATION"), polars.String)
    counts = dict.fromkeys(("AC", "AC_HET", "AC_HOM", "AC_HEMI", "AN"), polars.Int32)
    return {"POS": polars.Int32, **texts, "AF": polars.Float64, **counts}


def _rows(polars: Any, file: Path) -> pl.LazyFrame:
    """The exact counts of variants that the mini-node knows, with their classes where they are told."""
    col, when = polars.col, polars.when
    if file.suffix == ".parquet":
        read = polars.scan_parquet(file)
    else:
        read = polars.scan_csv(file, separator="\t", quote_char=None, null_values="", infer_schema=False)
    names = read.collect_schema().names()
    if MISSING_NODES in names:
        raise BeaconFilesError(f"{file.name} lacks nodes of its run: wait for them, or gather again.")
    if "chrom" in names:  # a node's release
        exact = (col("ac_min") == col("ac_max")) & (col("an_min") == col("an_max"))
        read = read.filter(exact).rename({"chrom": "CHROM", "pos": "POS", "ref": "REF", "alt": "ALT"})
        read = read.with_columns(AC=col("ac_min"), AN=col("an_min"))
    elif not {"CHROM", "POS", "REF", "ALT", "AC", "AN"} <= set(names):
        raise BeaconFilesError(f"{file.name} is no answer of allele-frequency, and no release in Parquet.")
    whole = polars.Int64
    classes = {name: (col(of).cast(whole) * copies) for name, (of, copies) in CLASSES.items() if of in names}
    read = read.with_columns(POS=col("POS").cast(whole) - 1, AC=col("AC").cast(whole), AN=col("AN").cast(whole))
    read = read.with_columns(CHROM=col("CHROM").str.replace("(?i)^chr", "").str.to_uppercase().replace("MT", "M"))
    bases = [col(name).str.contains("^[ACGTN]+$") for name in ("REF", "ALT")]
    read = read.filter(col("CHROM").str.contains(CHROMOSOME), col("AC").is_not_null(), col("AN") > 0, *bases)
    ref, alt = col("REF").str.len_chars(), col("ALT").str.len_chars()
    kind = when((ref == 1) & (alt == 1)).then(polars.lit("SNP"))
    kind = kind.when(ref != alt).then(polars.lit("INDEL")).otherwise(polars.lit("UNKNOWN"))
    numbers = {name: classes.get(name, polars.lit(None)) for name in CLASSES}
    found = read.with_columns(VT=kind, AF=col("AC") / col("AN"), POPULATION=polars.lit(""), **numbers)
    types = _schema(polars)
    picked: pl.LazyFrame = found.select("CHROM", *(col(name).cast(kind) for name, kind in types.items()))
    return picked


def _describe(described: Descriptor, file: Path, rows: int, provider: str, catalog: str) -> None:
    """Writes metadata.yaml, or brings count and time of one that is there up to date."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    title = described.title or described.dataset
    decision = described.decision
    word = f" Published by decision of {decision.by} of {decision.date}." if decision else ""
    fresh = {"title": title, "description": f"Allele frequencies of {title}.{word}", "catalog_id": catalog}
    known: dict[str, Any] = {**fresh, "keywords": ["allele frequency"], "since": now, "data_provider_name": provider}
    if file.exists():
        try:
            known |= yaml.safe_load(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, TypeError, ValueError):
            raise BeaconFilesError(f"{file} is no YAML mapping: mend or remove it.") from None
    known |= {"record_count": rows, "updated": now}
    file.write_text(yaml.safe_dump(known, sort_keys=False, allow_unicode=True), encoding="utf-8")
