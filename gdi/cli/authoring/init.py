"""`gdi workflow init`: the smallest good entry, which checks, locks and runs as it is."""

from __future__ import annotations

from pathlib import Path

from gdi.contracts.ids import WORKFLOW_NAME, matches
from gdi.contracts.workflow import CatalogueError

YAML = """\
name: {name}
title: {title}
version: "0.1.0"
description: |
  What is counted, in which data, and what leaves a node: two or three sentences for those who start it.
parameters:
  min_records:
    type: integer
    title: Least number of records
    description: The run fails where a dataset has fewer.
    minimum: 0
    maximum: 1000000
    default: 1
required: []
needs:
  images: ["gdi-task:1"]
  cpu_cores: 1
  ram_gb: 1
  disk_gb: 10
releases:
  - name: sites
    title: Allele counts per site
    path: release/sites.json
    kind: allele-counts
    schema_file: release.schema.json
"""
SNAKEFILE = '''\
"""{title}: prepare (one job a dataset) -> release/sites.json.

`config` holds the node's datasets and the parameters of workflow.yaml.
"""

DATASETS = config["datasets"]


container: "gdi-task:1"


rule all:
    input:
        "release/sites.json",


# Inputs come from the node's archive, decrypted; all other paths lie in the run's workspace at the node.
# Nothing is read where Snakemake runs.
rule count:
    input:
        storage.sda("sda://{{dataset}}/cohort.vcf.gz.c4gh"),
    output:
        "count/{{dataset}}.txt",
    params:
        least=config["min_records"],
    resources:
        mem_mb=500,
        disk_mb=5000,
    shell:
        "n=$(zcat {{input:q}} | grep -vc '^#') && echo $n > {{output:q}} && test $n -ge {{params.least}}"


rule release:
    input:
        expand("count/{{dataset}}.txt", dataset=DATASETS),
    output:
        "release/sites.json",
    resources:
        mem_mb=500,
        disk_mb=500,
    shell:
        "cat {{input:q}} && echo '{{{{\\"format\\": \\"gdi-allele-counts/1\\", \\"sites\\": []}}}}' > {{output:q}}"
'''
SCHEMA = """\
{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["format", "sites"],
  "additionalProperties": false,
  "properties": {"format": {"const": "gdi-allele-counts/1"}, "sites": {"type": "array", "maxItems": 5000000}}
}
"""
README = """\
# {name}
{title}.

| rule | does | reads | writes |
| --- | --- | --- | --- |
| `count` | counts the records of a dataset | `sda://DATASET/cohort.vcf.gz.c4gh` | a number |
| `release` | puts the answer together | all counts | `release/sites.json` |

After a change: `gdi workflow check {name}`, `gdi workflow lock {name}`, `gdi workflow test {name}`.
"""


def init(catalogue: Path, name: str) -> Path:
    """Writes a new entry `catalogue/name`. CatalogueError where the name is no good or the folder is there."""
    if not matches(WORKFLOW_NAME, name):
        raise CatalogueError(
            f"{name!r} cannot be a workflow's name: lower-case letters, digits and '-', a letter first, at most 63"
        )
    folder = catalogue / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise CatalogueError(f"{folder} is there already; choose another name or work on that one") from None
    title = name.replace("-", " ").capitalize()
    files = {"workflow.yaml": YAML, "Snakefile": SNAKEFILE, "release.schema.json": SCHEMA, "README.md": README}
    for file, text in files.items():
        (folder / file).write_text(text if file.endswith(".json") else text.format(name=name, title=title))
    return folder
