"""The files of GDI's mini-node: `DATASET/metadata.yaml` and `DATASET/ASSEMBLY/allele-freq-chrN.K.parquet`, where K is
the position (counted from 0) divided by 10,000,000.

Columns: POS (int32, from 0), REF, ALT, VT, POPULATION (text), AF (float64), AC, AC_HET, AC_HOM, AC_HEMI, AN (int32).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from gdi.contracts.beacon import Assembly

GROUP = 10_000_000  # positions of a file
MAX_POPULATIONS = 1000
NAMES = {
    "AF": "alleleFrequency",
    "AC": "alleleCount",
    "AC_HOM": "alleleCountHomozygous",
    "AC_HET": "alleleCountHeterozygous",
    "AC_HEMI": "alleleCountHemizygous",
    "AN": "alleleNumber",
}


@dataclass(frozen=True)
class StoredVariant:
    """As the files have it: `position` counts from 0, `kind` is `SNP`, `INDEL`, …"""

    assembly: Assembly
    chromosome: str
    position: int
    ref: str
    alt: str
    kind: str = "SNP"

    @property
    def file(self) -> str:
        return f"{self.assembly}/allele-freq-chr{self.chromosome}.{self.position // GROUP}.parquet"


class DatasetFolders:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[dict[str, Any]]:
        """The datasets as a Beacon's collection shows them, by id; a folder without readable metadata is none."""
        found = []
        for file in sorted(self._folder.glob("*/metadata.yaml")):
            try:
                data = yaml.safe_load(file.read_text())
                title = str(data["title"])
            except (OSError, yaml.YAMLError, KeyError, TypeError):
                continue
            times = {"createDateTime": data.get("since"), "updateDateTime": data.get("updated")}
            shown = {k: v.isoformat() if isinstance(v, datetime) else str(v) for k, v in times.items() if v}
            text = {"description": str(data["description"]).strip()} if data.get("description") else {}
            found.append({"id": file.parent.name, "name": title, **text, **shown})
        return found

    def populations(self, dataset: str, variant: StoredVariant) -> list[dict[str, Any]]:
        """Frequencies by population; empty where the dataset does not have the variant."""
        import polars

        file = self._folder / dataset / variant.file
        if not file.is_file():
            return []
        column = polars.col
        rows = polars.scan_parquet(file).filter(
            (column("POS") == variant.position)
            & (column("REF") == variant.ref)
            & (column("ALT") == variant.alt)
            & (column("VT") == variant.kind)
        )
        return [
            {"population": row["POPULATION"], **{n: row[c] for c, n in NAMES.items() if row.get(c) is not None}}
            for row in rows.head(MAX_POPULATIONS).collect().to_dicts()
        ]


def write(folder: Path, dataset: str, title: str, rows: list[tuple[StoredVariant, dict[str, Any]]]) -> None:
    """A dataset's folder with these variants; each row has POPULATION, AF, AC and AN at least."""
    import polars

    types: dict[str, type[polars.DataType]] = {"POS": polars.Int32, "AF": polars.Float64}
    types |= dict.fromkeys(("AC", "AC_HET", "AC_HOM", "AC_HEMI", "AN"), polars.Int32)
    types |= dict.fromkeys(("REF", "ALT", "VT", "POPULATION"), polars.String)
    place = folder / dataset
    place.mkdir(parents=True, exist_ok=True)
    described = {"title": title, "catalog_id": "demo", "since": "2026-01-01T00:00:00Z"}
    (place / "metadata.yaml").write_text(yaml.safe_dump(described))
    files: dict[str, list[dict[str, Any]]] = {}
    for v, row in rows:
        where = {"POS": v.position, "REF": v.ref, "ALT": v.alt, "VT": v.kind}
        files.setdefault(v.file, []).append({**dict.fromkeys(types), **where, **row})
    for name, content in files.items():
        (place / name).parent.mkdir(exist_ok=True)
        polars.DataFrame(content, schema=types).write_parquet(place / name)
