"""Puts the regions' statistics into one file: of one dataset all variants in order; of several each variant once, by
fixed effects (inverse variance), with the counts added up.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import IO, Any

from vcf import VcfError, fail

KEY = ["CHROM", "POS", "REF", "ALT"]
COUNTS = ["N", "CASES", "CARRIERS", "OTHERS", "CASES_CARRIERS", "CASES_OTHERS"]


def append(files: list[Path], out: IO[str]) -> dict[str, Any]:
    """Writes the files' variants, and returns what their first lines say. `files`: of one dataset, a file's sections in
    order. Ends with 1 where a section was at fault, with the file's own line.
    """
    lines: Counter[str] = Counter()
    about: dict[str, Any] = {}
    for name in files:
        with name.open() as file:
            about = json.loads(file.readline()[1:])
            file.readline()
            for text in file:
                if not text.startswith("#"):
                    out.write(text)
                    continue
                section, whole = json.loads(text[1:]), name.stem.partition(".")[0]
                if "fault" in section:
                    fail(VcfError(section["fault"], lines[whole] + section["line"], "found in a section"))
                lines[whole] += section["lines"]
    return about


def pooled(drafts: list[Path], heading: list[str]) -> Any:
    """A frame of all datasets' variants. One that a dataset has on two lines is left out: its people would count twice
    by halves.
    """
    import polars as pl

    types = dict.fromkeys(KEY, pl.String) | {"POS": pl.Int64} | dict.fromkeys(COUNTS, pl.Int64)
    types |= dict.fromkeys(["AF", "BETA", "SE"], pl.Float64)
    options = {"separator": "\t", "has_header": False, "new_columns": heading, "schema_overrides": types}
    read = [pl.read_csv(draft, **options, quote_char=None) for draft in drafts if draft.stat().st_size]
    if not read:
        return pl.DataFrame(schema={name: types[name] for name in heading})
    once = [frame.filter(~pl.struct(KEY).is_duplicated()) for frame in read]
    again = pl.concat([frame.filter(pl.struct(KEY).is_duplicated()).select(KEY) for frame in read])
    rows = pl.concat(once).join(again, on=KEY, how="anti").with_columns(w=1 / pl.col("SE") ** 2)
    return (
        rows.group_by(KEY)
        .agg(
            *(pl.col(name).sum() for name in COUNTS),
            AF=(pl.col("AF") * pl.col("N")).sum() / pl.col("N").sum(),
            BETA=(pl.col("BETA") * pl.col("w")).sum() / pl.col("w").sum(),
            SE=1 / pl.col("w").sum().sqrt(),
        )
        .sort(KEY)
        .select(heading)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    datasets: dict[Path, list[Path]] = {}
    for file in options.files:
        datasets.setdefault(file.parent, []).append(file)
    drafts = [options.out.with_name(f"{options.out.name}.{number}") for number in range(len(datasets))]
    said = []
    for draft, files in zip(drafts, datasets.values(), strict=True):
        with draft.open("w") as out:
            said.append(append(files, out))
    about = said[0] | {name: sum(one[name] for one in said) for name in ("people", "cases")}
    with options.files[0].open() as file:
        file.readline()
        heading = file.readline()
    with options.out.open("w") as out:
        out.write("#" + json.dumps(about, separators=(",", ":"), sort_keys=True) + "\n" + heading)
        if len(drafts) == 1:
            with drafts[0].open() as file:
                out.writelines(file)
        else:
            for row in pooled(drafts, heading.split()).iter_rows():
                out.write("\t".join(f"{v:.8g}" if isinstance(v, float) else str(v) for v in row) + "\n")
    for draft in drafts:
        draft.unlink()


if __name__ == "__main__":
    main()
