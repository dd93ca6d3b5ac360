"""What `gdi workflow init` writes: for each kind of release the smallest entry that releases something."""

from __future__ import annotations

from dataclasses import dataclass

from gdi.cli.authoring.example_scripts import (
    COUNT_ALLELES,
    COUNT_EFFECTS,
    COUNT_PEOPLE,
    COUNT_VALUES,
    GATHER_ALLELES,
    GATHER_EFFECTS,
    GATHER_MOMENTS,
    GATHER_PEOPLE,
)
from gdi.cli.authoring.example_sums import GATHER_SUMS


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
    suffix: str = "json"  # of the release's file; what is no JSON has no schema
    others: str = ""  # other fields of the release, as its schema has them
    beside: str = ""  # another file of the archive, which the script reads as well

    def files(self, kind: str, name: str, title: str) -> dict[str, str]:
        """The entry's files by path."""
        known = {"name": name, "title": title, "kind": kind, **vars(self)}
        known["schema"] = "    schema_file: release.schema.json\n" if self.suffix == "json" else ""
        known["more"] = f'        storage.sda("sda://{{dataset}}/{self.beside}"),\n' if self.beside else ""
        found = {"workflow.yaml": YAML, "Snakefile": SNAKEFILE, "README.md": README}
        found |= {"release.schema.json": SCHEMA} if self.suffix == "json" else {}
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
    path: release/<<release>>.<<suffix>>
    kind: <<kind>>
<<schema>>"""
SNAKEFILE = '''\
"""<<title>>: count (one job a dataset) -> gather -> release/<<release>>.<<suffix>>.

`config` holds the node's datasets and the parameters of workflow.yaml.
"""

DATASETS = config["datasets"]
SCRIPTS = workflow.basedir + "/scripts"


container: "gdi-task:1"


rule all:
    input:
        "release/<<release>>.<<suffix>>",


# Inputs come from the node's archive, decrypted; all other paths lie in the run's workspace at the node.
# Nothing is read where Snakemake runs.
rule count:
    input:
        storage.sda("sda://{dataset}/<<file>>"),
<<more>>    output:
        "count/{dataset}.<<suffix>>",
    params:
        column=config.get("column", "sex"),
        number=config.get("number", "ldl"),
    resources:
        mem_mb=500,
        disk_mb=5000,
    shell:
        "python3 {SCRIPTS}/count.py {input:q} {output:q}<<arguments>>"


rule gather:
    input:
        expand("count/{dataset}.<<suffix>>", dataset=DATASETS),
    output:
        "release/<<release>>.<<suffix>>",
    params:
        column=config.get("column", "sex"),
        number=config.get("number", "ldl"),
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
  "properties": {"format": {"const": "<<format>>"}, "<<content>>": {"type": "array", "maxItems": 5000000}<<others>>}
}
"""
README = """\
# <<name>>
<<title>>.

| rule | does | reads | writes |
| --- | --- | --- | --- |
| `count` | counts a dataset | `sda://DATASET/<<file>>` | counts, at the node |
| `gather` | a node's datasets added up | all counts | `release/<<release>>.<<suffix>>` |

**What leaves**: a release of the kind `<<kind>>`. The node checks it and withholds what is about few people; this
workflow need not know the floor.

**How nodes are merged**: <<merge>>

After a change: `gdi workflow check <<name>>`, `gdi workflow lock <<name>>`, `gdi workflow test <<name>>`.
"""
GATHER = {
    "allele-counts": GATHER_ALLELES,
    "matrix": GATHER_SUMS,
    "moments": GATHER_MOMENTS,
    "table": GATHER_PEOPLE,
    "variant-statistics": GATHER_EFFECTS,
}
PARAMETER = """
  <<name>>:
    type: string
    title: <<title>>
    description: <<description>>
    pattern: "^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"
    default: <<default>>"""


def _parameter(name: str, title: str, description: str, default: str) -> str:
    """A parameter that names a column of the sample table."""
    return _filled(PARAMETER, {"name": name, "title": title, "description": description, "default": default})


def _number(title: str, what: str = "whose bounds") -> str:
    return _parameter("number", title, f"A number of the sample table, {what} the nodes' descriptors declare.", "ldl")


COLUMN = _parameter(
    "column", "Column", "A column of the sample table, whose categories the nodes' descriptors declare.", "sex"
)
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
        parameters=COLUMN,
        arguments=" {params.column:q}",
    ),
    "moments": Template(
        release="means",
        subject="Means by group",
        file="samples.tsv.c4gh",
        format="gdi-moments/1",
        content="moments",
        script=COUNT_VALUES,
        merge="people add up; mean and variance of all follow from each node's n, mean and variance. Groups of fewer\n"
        "than 20 people stay, and those in which few people have most of the number. Three digits leave; a node that\n"
        "withholds a group is not in its mean (`NODES`, `REASON`).",
        parameters=COLUMN + _number("Number"),
        arguments=" {params.column:q} {params.number:q}",
        others=', "group": {"type": "array"}, "people": {"type": "array"}',
    ),
    "matrix": Template(
        release="sums",
        subject="Sums of products",
        file="samples.tsv.c4gh",
        format="gdi-matrix/1",
        content="sums",
        script=COUNT_VALUES,
        merge="sums of products add up, so that the coefficients are those of least squares over all people in one\n"
        "file. All sums of a node leave, or none: of 50 people, 20 of each category, and no more sums than half as\n"
        "many as there are people. Datasets must name this kind; `workflows/regression` has numbers as covariates.",
        parameters=COLUMN + _number("Outcome"),
        arguments=" {params.column:q} {params.number:q}",
        others="".join(
            f', "{name}": {{}}'
            for name in (
                *("model", "outcome", "numbers", "categories", "people", "products", "steps", "leverage"),
                *("support", "arrangements"),
            )
        ),
    ),
    "variant-statistics": Template(
        release="effects",
        subject="Effects by variant",
        file="cohort.vcf.gz.c4gh",
        beside="samples.tsv.c4gh",
        format="gdi-variant-statistics/1",
        content="",
        suffix="tsv",
        script=COUNT_EFFECTS,
        merge="meta-analysis of effects and standard errors (fixed effects by inverse variance, Cochran's Q, random\n"
        "effects); REF and ALT written the other way round are flipped.",
        parameters=_number("Phenotype", "which"),
        arguments=" {params.number:q}",
    ),
}
