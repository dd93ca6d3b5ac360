"""`make nightly-vcf FOLDER=…`: every VCF below a folder through the allele-frequency workflow's scripts, and each count
that may leave compared with bcftools (Debian's package `bcftools`: apt-get install bcftools).

Prints the rates; ends with 1 where a count differs, or where fewer than 99 % of the files that have genotypes and that
bcftools reads are accepted (a site with more than two alleles in a genotype is left out by name). A refusal is a class
of a list and the line. FOLDER may hold checkouts of public repositories, for example samtools/bcftools,
samtools/htslib, samtools/hts-specs, brentp/cyvcf2, pysam-developers/pysam.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parents[1] / "workflows" / "allele-frequency" / "scripts"
REFUSALS = ("VcfFormatError", "NoGenotypes", "TruncatedFile", "DamagedFile")
AT_LEAST = 0.99
TIMEOUT = 120  # seconds for bcftools and one file
Site = tuple[str, int, str, str]


@dataclass
class Result:
    read: int = 0  # files that bcftools reads and that have genotypes
    accepted: int = 0
    compared: int = 0  # counts that may leave
    wrong: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    refusals: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    unread: int = 0
    without: int = 0


def bcftools(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        ["bcftools", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT,
    )


def theirs(vcf: Path) -> dict[Site, list[tuple[int, int]]] | None:
    """(AC, AN) of each line's alleles by bcftools, in the file's order. None where it does not read the file."""
    filled = bcftools("plugin", "fill-tags", str(vcf), "--", "-t", "AC,AN")
    if filled.returncode != 0:
        return None
    found: dict[Site, list[tuple[int, int]]] = {}
    for line in filled.stdout.splitlines():
        cells = line.split("\t")
        if line.startswith("#") or len(cells) < 8:
            continue
        info = dict(part.partition("=")[::2] for part in cells[7].split(";"))
        acs, alts = info.get("AC", "").split(","), cells[4].split(",")
        for i, alt in enumerate(alts):
            site = (cells[0], int(cells[1]), cells[3].upper(), alt if alt.startswith("<") else alt.upper())
            ac = acs[i] if i < len(acs) else ""
            found.setdefault(site, []).append(
                (int(ac) if ac.isdecimal() else 0, int(info["AN"]) if info.get("AN", "").isdecimal() else 0)
            )
    return found


def has_genotypes(vcf: Path) -> bool:
    """Whether bcftools finds samples and a record with GT."""
    names = bcftools("query", "-l", str(vcf))
    if names.returncode != 0 or not names.stdout.strip():
        return False
    body = bcftools("view", "-H", str(vcf))
    rows = (line.split("\t") for line in body.stdout.splitlines())
    return body.returncode == 0 and any(len(r) > 9 and "GT" in r[8].split(":") for r in rows)


def ours(vcf: Path, folder: Path) -> dict[str, Any] | str:
    """The release of a node with this file, or the last line of what the scripts said."""
    steps = [
        ("validate.py", vcf, folder / "v.json"),
        ("regions.py", folder / "v.json", folder / "r.json", "--regions", 2),
        *(("count.py", vcf, folder / "r.json", i, folder / f"{i}.jsonl") for i in range(2)),
        ("gather.py", folder / "out.json", folder / "0.jsonl", folder / "1.jsonl"),
    ]
    said = io.StringIO()
    for name, *arguments in steps:
        sys.argv = [name, *map(str, arguments)]
        try:
            with contextlib.redirect_stderr(said):
                runpy.run_path(str(SCRIPTS / name), run_name="__main__")
        except SystemExit:
            return said.getvalue().strip()
    release: dict[str, Any] = json.loads((folder / "out.json").read_text())
    return release


def files_of(folder: Path) -> Iterator[Path]:
    """Each content once, by path."""
    seen = set()
    for file in sorted(folder.rglob("*")):
        if file.name.endswith((".vcf", ".vcf.gz")) and file.is_file():
            digest = hashlib.sha256(file.read_bytes()).digest()
            if digest not in seen:
                seen.add(digest)
                yield file


def look(vcf: Path, name: str, result: Result) -> None:
    """One file into `result`."""
    known = theirs(vcf) if has_genotypes(vcf) else None
    with tempfile.TemporaryDirectory() as folder:
        release = ours(vcf, Path(folder))
    if known is None:
        plain = bcftools("view", "-H", str(vcf)).returncode == 0
        result.without, result.unread = result.without + plain, result.unread + (not plain)
        return
    result.read += 1
    if isinstance(release, str):
        kind = release.rpartition("GDI-ERROR class=")[2].partition(" ")[0]
        result.refused[kind if kind in REFUSALS else f"not of the list: {kind}"] += 1
        result.refusals.append(f"{name}: {release.splitlines()[0] if release else 'nothing was said'}")
        return
    result.accepted += 1
    result.skipped.update(release.get("skipped", {}))
    for row in release["sites"]:
        result.compared += 1
        site = (row["chrom"], row["pos"], row["ref"], row["alt"])
        if (row["ac"], row["an"]) not in known.get(site, []):
            result.wrong.append(f"{name}: {site}: {row['ac']}/{row['an']} instead of {known.get(site)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--list", action="store_true", help="each refusal with its line")
    options = parser.parse_args()
    if not options.folder.is_dir():
        sys.exit("Name a folder of VCFs: make nightly-vcf FOLDER=…")
    if shutil.which("bcftools") is None:
        sys.exit("bcftools is missing: apt-get install bcftools")
    sys.path.insert(0, str(SCRIPTS))
    result = Result()
    for vcf in files_of(options.folder):
        look(vcf, str(vcf.relative_to(options.folder)), result)
    rate = result.accepted / result.read if result.read else 0
    print(f"files with genotypes that bcftools reads: {result.read}")
    print(f"accepted: {result.accepted} ({rate:.1%}); refused: {dict(result.refused.most_common())}")
    print(f"counts compared: {result.compared}; different: {len(result.wrong)}")
    print(f"sites left out, by reason: {dict(result.skipped.most_common())}")
    print(f"not counted here: {result.without} files without genotypes, {result.unread} that bcftools does not read")
    for line in result.wrong[:50]:
        print(f"  different: {line}")
    for line in result.refusals if options.list or rate < AT_LEAST else []:
        print(f"  refused: {line}")
    strange = any(kind not in REFUSALS for kind in result.refused)
    sys.exit(1 if result.wrong or strange or rate < AT_LEAST else 0)


if __name__ == "__main__":
    main()
