"""What `gdi workflow init` writes: for each kind of release the smallest entry that releases something."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Template:
    """An entry that counts with one script. `merge`: how releases become one answer, for its README."""

    release: str  # the release's name and its file's
    subject: str  # the release's title
    file: str  # the archive's file that it reads
    format: str
    content: str  # the field of the release beside `format`
    script: str
    merge: str
    parameters: str = "{}"
    arguments: str = ""

    def files(self, kind: str, name: str, title: str) -> dict[str, str]:
        """The entry's files by path."""
        known = {"name": name, "title": title, "kind": kind, **vars(self)}
        found = {"workflow.yaml": YAML, "Snakefile": SNAKEFILE, "README.md": README, "release.schema.json": SCHEMA}
        written = {path: _filled(text, known) for path, text in found.items()}
        return {**written, "scripts/count.py": self.script, "scripts/gather.py": GATHER[kind]}


def _filled(text: str, values: dict[str, object]) -> str:
    """The text with `<<name>>` filled in: braces are Snakemake's."""
    for name, value in values.items():
        text = text.replace(f"<<{name}>>", str(value))
    return text


YAML = """\
name: <<name>>
title: <<title>>
version: "0.1.0"
description: |
  What is counted, in which data, and what leaves a node: two or three sentences for those who start it.
parameters: <<parameters>>
required: []
needs:
  images: ["gdi-task:1"]
  cpu_cores: 1
  ram_gb: 1
  disk_gb: 10
releases:
  - name: <<release>>
    title: <<subject>>
    path: release/<<release>>.json
    kind: <<kind>>
    schema_file: release.schema.json
"""
SNAKEFILE = '''\
"""<<title>>: count (one job a dataset) -> gather -> release/<<release>>.json.

`config` holds the node's datasets and the parameters of workflow.yaml.
"""

DATASETS = config["datasets"]
SCRIPTS = workflow.basedir + "/scripts"


container: "gdi-task:1"


rule all:
    input:
        "release/<<release>>.json",


# Inputs come from the node's archive, decrypted; all other paths lie in the run's workspace at the node.
# Nothing is read where Snakemake runs.
rule count:
    input:
        storage.sda("sda://{dataset}/<<file>>"),
    output:
        "count/{dataset}.json",
    params:
        column=config.get("column", "sex"),
    resources:
        mem_mb=500,
        disk_mb=5000,
    shell:
        "python3 {SCRIPTS}/count.py {input:q} {output:q}<<arguments>>"


rule gather:
    input:
        expand("count/{dataset}.json", dataset=DATASETS),
    output:
        "release/<<release>>.json",
    params:
        column=config.get("column", "sex"),
    resources:
        mem_mb=500,
        disk_mb=500,
    shell:
        "python3 {SCRIPTS}/gather.py {output:q} {input:q}<<arguments>>"
'''
SCHEMA = """\
{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["format", "<<content>>"],
  "additionalProperties": false,
  "properties": {"format": {"const": "<<format>>"}, "<<content>>": {"type": "array", "maxItems": 5000000}}
}
"""
README = """\
# <<name>>
<<title>>.

| rule | does | reads | writes |
| --- | --- | --- | --- |
| `count` | counts a dataset | `sda://DATASET/<<file>>` | counts, at the node |
| `gather` | a node's datasets added up | all counts | `release/<<release>>.json` |

**What leaves**: a release of the kind `<<kind>>`. The node checks it and withholds what is about few people; this
workflow need not know the floor.

**How nodes are merged**: <<merge>>

After a change: `gdi workflow check <<name>>`, `gdi workflow lock <<name>>`, `gdi workflow test <<name>>`.
"""
COUNT_ALLELES = '''\
"""Counts alleles and genotype classes of the biallelic sites of a VCF whose genotypes are all diploid."""

import gzip
import json
import sys


def main(vcf: str, out: str) -> None:
    sites = []
    with gzip.open(vcf, "rt") as lines:
        for line in lines:
            if line.startswith("#"):
                continue
            chrom, pos, _, ref, alt, *_, form, genotypes = line.rstrip("\\n").split("\\t", 9)
            if "," in alt or alt == "." or not form.startswith("GT"):
                continue
            calls = [cell.split(":")[0].replace("|", "/") for cell in genotypes.split("\\t")]
            classes = [calls.count("0/0"), calls.count("0/1") + calls.count("1/0"), calls.count("1/1")]
            called = sum(classes)
            if called + calls.count("./.") != len(calls):
                continue
            site = {"chrom": chrom, "pos": int(pos), "ref": ref, "alt": alt}
            site |= {"ac": classes[1] + 2 * classes[2], "an": 2 * called}
            site |= dict(zip(("hom_ref", "het", "hom_alt"), classes))
            site |= {"hemi_ref": 0, "hemi_alt": 0, "half_missing": 0, "missing": len(calls) - called}
            sites.append(site)
    with open(out, "w") as file:
        json.dump(sites, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''
GATHER_ALLELES = '''\
"""Adds the datasets up, at the sites that all of them have."""

import json
import sys
from collections import Counter


def main(out: str, *files: str) -> None:
    names = ("chrom", "pos", "ref", "alt")
    sums: dict[tuple, Counter] = {}
    seen: Counter = Counter()
    for file in files:
        with open(file) as handle:
            for site in json.load(handle):
                place = tuple(site.pop(name) for name in names)
                sums.setdefault(place, Counter()).update(site)
                seen[place] += 1
    numbers = ("ac", "an", "hom_ref", "het", "hom_alt", "hemi_ref", "hemi_alt", "half_missing", "missing")
    whole = [place for place, count in seen.items() if count == len(files)]
    sites = [dict(zip(names, place)) | {name: sums[place][name] for name in numbers} for place in whole]
    with open(out, "w") as file:
        json.dump({"format": "gdi-allele-counts/1", "sites": sites}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''
COUNT_PEOPLE = '''\
"""Counts people by the values of a column of the sample table (text separated by tabs, a first line of names)."""

import csv
import json
import sys
from collections import Counter


def main(table: str, out: str, column: str) -> None:
    with open(table, newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\\t", quoting=csv.QUOTE_NONE)
        counts = Counter(row[column] or "unknown" for row in rows)
    with open(out, "w") as file:
        json.dump(counts, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''
GATHER_PEOPLE = '''\
"""Adds the datasets up. Categories must be those that the nodes' descriptors declare for the column."""

import json
import sys
from collections import Counter


def main(out: str, *rest: str) -> None:
    *files, column = rest
    counts: Counter = Counter()
    for name in files:
        with open(name) as file:
            counts.update(json.load(file))
    rows = [[level, people] for level, people in sorted(counts.items())]
    table = {"name": "people", "columns": [column], "rows": rows}
    with open(out, "w") as file:
        json.dump({"format": "gdi-table/1", "tables": [table]}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''
GATHER = {"allele-counts": GATHER_ALLELES, "table": GATHER_PEOPLE}
TEMPLATES = {
    "allele-counts": Template(
        release="sites",
        subject="Allele counts per site",
        file="cohort.vcf.gz.c4gh",
        format="gdi-allele-counts/1",
        content="sites",
        script=COUNT_ALLELES,
        merge="sums of AC and AN by allele; where a node withholds a number, an interval (`AC_MIN`, `AC_MAX`).",
    ),
    "table": Template(
        release="people",
        subject="People by category",
        file="samples.tsv.c4gh",
        format="gdi-table/1",
        content="tables",
        script=COUNT_PEOPLE,
        merge="sums by category, with all margins; where a node withholds a cell, an interval (`PEOPLE_MIN`,\n"
        "`PEOPLE_MAX`). Columns and categories are those of the nodes' descriptors; a histogram has their bins.",
        parameters="""
  column:
    type: string
    title: Column
    description: A column of the sample table, whose categories the nodes' descriptors declare.
    pattern: "^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"
    default: sex""",
        arguments=" {params.column:q}",
    ),
}
