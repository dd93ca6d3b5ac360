"""Two datasets with an epoch whose people are split by sex, one at each node, before their federation starts."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Sequence
from pathlib import Path

import yaml

from gdi.contracts.descriptor import Descriptor
from gdi.contracts.ids import dataset_name
from gdi.kit.jose import SigningKey
from gdi.local_federation import cohort
from gdi.local_federation.federation import COHORT, INPUT, SAMPLES, Federation
from gdi.local_federation.parts import core
from gdi.local_federation.sda import provision
from node_gateway.db.store import GatewayDatabase
from node_gateway.epochs import command as epochs

SPLIT = {"EGAD-SPLIT-A": "node-a", "EGAD-SPLIT-B": "node-b"}  # dataset: who holds it
SITES = 60


def sex_of(place: int) -> str:
    """Of a node's person, by place in its file: five have none, and join the smaller level."""
    return "" if place < 5 else "female" if place % 3 else "male"


def fill(federation: Federation) -> None:
    """Files, descriptors and epochs: those of a gateway that is not up yet."""
    folder = federation.layout.folder("cohort")
    with gzip.open(COHORT, "rt") as file:
        lines = file.read().splitlines()
    head = sum(line.startswith("#") for line in lines)
    small = folder / "split.vcf"
    small.write_text("\n".join(lines[: head + SITES]) + "\n")
    parts = {dataset: folder / f"{dataset}.vcf.gz" for dataset in SPLIT}
    cohort.split(small, list(parts.values()))
    names = lines[head - 1].split("\t")[9:]
    for number, (dataset, node) in enumerate(SPLIT.items()):
        provision.add(federation.archive(node), dataset, INPUT, parts[dataset])
        table = folder / f"{dataset}.tsv"
        rows = [f"{name}\t{sex_of(place)}" for place, name in enumerate(names[number :: len(SPLIT)])]
        table.write_text("\n".join(["person\tsex", *reversed(rows)]) + "\n")
        provision.add(federation.archive(node), dataset, SAMPLES, table)
        asyncio.run(_open(federation, node, dataset, table))


async def _open(federation: Federation, node: str, dataset: str, table: Path) -> None:
    home = federation.layout.folder("nodes", node, "gateway")
    described = {
        "dataset": dataset,
        "assembly": "GRCh37",
        "membership": "contract",
        "absent": "reference",
        "files": [{"path": INPUT, "format": "vcf"}],
        "samples": {"file": SAMPLES, "format": "tsv", "person": "person", "sex": {"column": "sex"}},
        "splits": ["sex"],
    }
    (home / "datasets").mkdir(exist_ok=True)
    (home / "datasets" / f"{dataset_name(dataset)}.yaml").write_text(yaml.safe_dump(described))
    key = SigningKey.from_pem(core.node_key(federation.secrets, node).read_bytes())
    database = GatewayDatabase.open(f"sqlite+aiosqlite:///{home / 'gateway.db'}")
    await database.create()
    opening = epochs.Opening(dataset, samples=table, descriptor=Descriptor.model_validate(described))
    await epochs.open_(database, key, opening, dry_run=False)
    await database.close()


FEMALE = {"split": "sex", "level": "female"}
Site = tuple[str, int, str, str]


def counts_of(level: str, nodes: Sequence[int] = (0, 1)) -> dict[Site, tuple[int, int]]:
    """(AC, AN) of these people by site, from the genotypes themselves. `nodes`: by number."""
    columns = [9 + one for number in nodes for one in people(level, number)]
    found = {}
    with gzip.open(COHORT, "rt") as file:
        records = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")][:SITES]
    for cells in records:
        alleles = [allele for column in columns for allele in cells[column][:3:2]]
        called = [allele for allele in alleles if allele != "."]
        found[cells[0], int(cells[1]), cells[3], cells[4]] = (called.count("1"), len(called))
    return found


def exact(answer: Path) -> dict[Site, tuple[int, int]]:
    """(AC, AN) by site of an answer's table, where AC is told."""
    heading, *lines = answer.read_text().splitlines()
    rows = [dict(zip(heading.split("\t"), line.split("\t"), strict=True)) for line in lines]
    return {(r["CHROM"], int(r["POS"]), r["REF"], r["ALT"]): (int(r["AC"]), int(r["AN"])) for r in rows if r["AC"]}


def people(level: str, number: int) -> list[int]:
    """The places in the whole cohort's file of the people of a level at the node of that number."""
    with gzip.open(COHORT, "rt") as file:
        heading = next(line for line in file if line.startswith("#CHROM"))
    whole = range(len(heading.split("\t")) - 9)[number :: len(SPLIT)]
    return [one for place, one in enumerate(whole) if (sex_of(place) == "female") == (level == "female")]
