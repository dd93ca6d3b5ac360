"""A node's releases in this process, over the real cohort: the gateway's own check, ledger, epochs and budget, on
SQLite and a store in memory. What an attacker reads is what the centre gets.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

import yaml

from gdi.contracts.cohorts import CohortChoice
from gdi.contracts.gateway_api import ReleaseRequest
from gdi.kit.jose import SigningKey
from gdi.releases.allele_counts.table import FORMAT
from node_gateway.audit import Audit
from node_gateway.auth import Caller
from node_gateway.db.locks import DatabaseLocks
from node_gateway.db.store import GatewayDatabase
from node_gateway.epochs import command as epochs
from node_gateway.metrics import Metrics
from node_gateway.policy import PolicyFile
from node_gateway.release.service import Releases
from node_gateway.review.service import Reviews
from node_gateway.workspace.bucket import Bucket

VCF = Path(__file__).parents[2] / "gdi" / "local_federation" / "data" / "1000G_2010_chr2_629samples.vcf.gz"
DIGEST = "sha256:" + "d" * 64
KEY = SigningKey.generate()
PEOPLE = range(629)
Place = tuple[str, int, str, str]
Genotypes = Sequence[int]  # copies of the alternate allele by person, -1 where there is no call


@cache
def cohort(sites: int = 120) -> list[tuple[Place, list[int]]]:
    """The first sites of the real cohort."""
    copies = {"0": 0, "1": 1, ".": -1}
    found: list[tuple[Place, list[int]]] = []
    with gzip.open(VCF, "rt") as lines:
        for line in lines:
            if line.startswith("#"):
                continue
            cells = line.rstrip("\n").split("\t")
            pairs = [cell[:3:2] for cell in cells[9:]]
            people = [-1 if "." in pair else sum(copies[allele] for allele in pair) for pair in pairs]
            found.append(((cells[0], int(cells[1]), cells[3], cells[4]), people))
            if len(found) == sites:
                break
    return found


def row(place: Place, genotypes: Genotypes) -> dict[str, Any]:
    """What an honest workflow counts at one site."""
    count = [list(genotypes).count(copies) for copies in (0, 1, 2, -1)]
    rest = {"hemi_ref": 0, "hemi_alt": 0, "half_missing": 0, "missing": count[3]}
    numbers = {"hom_ref": count[0], "het": count[1], "hom_alt": count[2], **rest}
    head = dict(zip(("chrom", "pos", "ref", "alt"), place, strict=True))
    return {**head, "ac": count[1] + 2 * count[2], "an": 2 * sum(count[:3]), **numbers}


def rows_of(people: Sequence[int], sites: int = 120) -> list[dict[str, Any]]:
    return [row(place, [genotypes[one] for one in people]) for place, genotypes in cohort(sites)]


def document(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps({"format": FORMAT, "sites": rows}).encode()


class MemoryStore:
    """A bucket in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    async def download(self, key: str, into: IO[bytes], most: int) -> int:
        into.write(self.objects[key])
        return len(self.objects[key])

    async def upload(self, key: str, source: IO[bytes], media_type: str) -> None:
        source.seek(0)
        self.objects[key] = source.read()


@dataclass
class Answer:
    """What the centre reads of one release."""

    document: dict[str, Any]
    released: dict[str, Any]

    def exact(self) -> dict[Place, int]:
        """AC by site, where it is told."""
        return {
            (one["chrom"], one["pos"], one["ref"], one["alt"]): one["ac_min"]
            for one in self.document["sites"]
            if one["ac_min"] == one["ac_max"]
        }

    def ranges(self) -> dict[Place, tuple[int, int]]:
        return {
            (one["chrom"], one["pos"], one["ref"], one["alt"]): (one["ac_min"], one["ac_max"])
            for one in self.document["sites"]
        }


@dataclass
class DisclosureNode:
    """`await node.release("DS1", rows)`; every run and user is a new one unless it is named."""

    folder: Path
    database: GatewayDatabase
    releases: Releases
    files: MemoryStore
    area: MemoryStore
    permissive: bool = False  # the operator wrote what an attack's rule is about, as loosely as can be
    _runs: int = field(default=0)

    def policy(self, **changes: Any) -> None:
        placed = {"placement": "coordinator", "accept_unattested": "the tests play the coordinator"}
        values = {"releases": {"kinds": ["allele-counts"]}, "floor": 5, **placed, **changes}
        temporary = self.folder / "policy.new"
        temporary.write_text(yaml.safe_dump(values))
        temporary.replace(self.folder / "policy.yaml")

    def describe(self, dataset: str, **changes: Any) -> None:
        values = {"dataset": dataset, "assembly": "GRCh37", "membership": "contract", "absent": "reference"}
        values |= {"identifiers": "one-per-person", "disjoint": True, **changes}
        folder = self.folder / "datasets"
        folder.mkdir(exist_ok=True)
        (folder / f"{dataset.rstrip('*')}.yaml").write_text(yaml.safe_dump({k: v for k, v in values.items() if v}))

    async def open_epoch(self, dataset: str, people: Sequence[int], **changes: Any) -> str:
        file = self.folder / "persons.txt"
        file.write_text("".join(f"HG{one:05d}\n" for one in people))
        request = epochs.Opening(dataset, file, **changes)
        return await epochs.open_(self.database, KEY, request, dry_run=False)

    async def open_table(self, dataset: str, rows: Sequence[Mapping[str, str]], **changes: Any) -> str:
        file = self.folder / "samples.tsv"
        columns = list(rows[0])
        file.write_text("\n".join("\t".join(one) for one in [columns, *([r[c] for c in columns] for r in rows)]) + "\n")
        described = self.releases.policy.datasets.of(dataset)
        request = epochs.Opening(dataset, samples=file, descriptor=described, **changes)
        return await epochs.open_(self.database, KEY, request, dry_run=False)

    def caller(self, datasets: Sequence[str], *, user: str = "mallory", run: str = "", digest: str = DIGEST) -> Caller:
        self._runs += 1
        run = run or f"r-{self._runs:020x}"
        scopes = frozenset({"releases"})
        return Caller(user, run, "node-a", 1, "allele-frequency", digest, frozenset(datasets), scopes, 1, "airflow")

    async def ask(
        self,
        datasets: str | Sequence[str],
        rows: list[dict[str, Any]] | bytes,
        *,
        user: str = "mallory",
        run: str = "",
        digest: str = DIGEST,
        kind: str = "allele-counts",
        review: bool = False,
        cohort: CohortChoice | None = None,
        levels: Mapping[str, list[dict[str, Any]]] | None = None,
    ) -> tuple[int, dict[str, Any], Caller]:
        """As `Releases.ask`, and who asked. ProblemError."""
        caller = self.caller([datasets] if isinstance(datasets, str) else datasets, user=user, run=run, digest=digest)
        self.files.objects[f"{caller.run}/out.json"] = rows if isinstance(rows, bytes) else document(rows)
        request = ReleaseRequest(
            name="counts",
            path="out.json",
            kind=kind,
            review=review,
            cohort=cohort or CohortChoice(),
            levels={level: f"level-{n}.json" for n, level in enumerate(levels or {})},
        )
        for n, others in enumerate((levels or {}).values()):
            self.files.objects[f"{caller.run}/level-{n}.json"] = document(others)
        status, answer = await self.releases.ask(request, caller)
        return status, answer, caller

    async def release(self, datasets: str | Sequence[str], rows: list[dict[str, Any]] | bytes, **how: Any) -> Answer:
        """What is published. ProblemError."""
        _, answer, caller = await self.ask(datasets, rows, **how)
        return await self.published(caller.run, answer)

    async def published(self, run: str, answer: dict[str, Any]) -> Answer:
        return Answer(json.loads(await self.content(run)), answer)

    async def content(self, run: str) -> bytes:
        """The bytes that were published."""
        file = self.folder / f"{run}.published"
        await self.releases.open(run, "counts", file)
        return file.read_bytes()


@asynccontextmanager
async def disclosure_node(folder: Path, template: Path) -> AsyncIterator[DisclosureNode]:
    """A node with policy and descriptors of DS1, DS2 and DS3. `template`: a file for an empty database, made once."""
    if not template.exists():
        empty = GatewayDatabase.open(f"sqlite+aiosqlite:///{template}.new")
        await empty.create()
        await empty.make_durable()
        await empty.close()
        shutil.move(f"{template}.new", template)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(template, folder / "gateway.db")
    database = GatewayDatabase.open(f"sqlite+aiosqlite:///{folder / 'gateway.db'}")
    files, area = MemoryStore(), MemoryStore()
    (folder / "policy.yaml").write_text("")
    policy, audit, buckets = (
        PolicyFile(folder / "policy.yaml"),
        Audit(database),
        [cast(Bucket, b) for b in (files, area)],
    )
    reviews = Reviews(database, policy, buckets[1], audit)
    releases = Releases(
        "node-a",
        "http://node-a",
        database,
        policy,
        KEY,
        buckets[0],
        buckets[1],
        audit,
        Metrics(),
        reviews,
        DatabaseLocks(None),
    )
    node = DisclosureNode(folder, database, releases, files, area)
    node.policy()
    for dataset in ("DS1", "DS2", "DS3"):
        node.describe(dataset)
    try:
        yield node
    finally:
        await database.close()
