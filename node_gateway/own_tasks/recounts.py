"""A recount for the reviewer: the node's own task counts a sample of a release's sites again, from the dataset's files,
and the review page shows both (docs/disclosure.md, 7). It runs as the run's user while the run is open, is no task that
the run sees, and its result stays in the node's bucket.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, ValidationError

from gdi.contracts.tes import FINAL
from gdi.contracts.urls import OWN, SdaUrl
from gdi.kit.jose import SigningKey
from gdi.kit.models import Strict
from gdi.kit.problem import ProblemError
from node_gateway.auth import Caller
from node_gateway.broker import BrokerConnection
from node_gateway.downloads import SdaRefusal
from node_gateway.listings import Listings
from node_gateway.own_tasks.tasks import VCF, OwnTask, OwnTasks
from node_gateway.policy import PolicyFile
from node_gateway.review.cases import Case
from node_gateway.review.service import Reviews
from node_gateway.tasks.store import OWN_JOB
from node_gateway.tasks.tes_client import TesAway

log = logging.getLogger("node_gateway")
SITES = 20
PLACES, BESIDE = 20, 100  # of the file, and rows at each, from which the sample is chosen
MAX_FILES = 200
MAX_RESULT = 256 * 1024
NEEDED = ("chrom", "pos", "ref", "alt", "ac_min", "ac_max", "an_min", "an_max")
Count = Annotated[int, Field(ge=0, le=2**53)]


class RecountResult(Strict):
    """What the task writes: everybody in the files, and (AC, AN) of each site that was asked for, in order."""

    people: Count
    counts: list[tuple[Count, Count]] = Field(max_length=SITES)


@dataclass(frozen=True)
class Recount:
    """`sentence` says how it stands. `rows`: what would leave of a site, what was counted, and whether they agree."""

    sentence: str
    rows: list[tuple[str, str, str, bool]] = field(default_factory=list)


@dataclass
class Recounts:
    tasks: OwnTasks
    policy: PolicyFile
    broker: BrokerConnection
    listings: Listings
    key: SigningKey
    reviews: Reviews

    async def begin(self, caller: Caller, case: Case) -> None:
        """Sends the task; what stops it is logged, and the page says that there is none."""
        sites = await self.sites(case)
        if not sites or self.policy.current().own_image is None:
            return
        known = await self.tasks.store.latest(case.run, job_of(case), "1")
        if known is not None:
            return  # the same release, asked for again
        try:
            files = await self._files(caller)
            absent = {str(number): self._reference(dataset) for number, dataset in enumerate(sorted(caller.datasets))}
            question = {"sites": [row[:4] for row in sites], "absent": absent}
            await self.tasks.send(caller, OwnTask(job_of(case), "recount", files, json.dumps(question), path_of(case)))
        except (ProblemError, SdaRefusal, TesAway) as error:
            log.warning("no recount of release %s of run %s: %s", case.name, case.run, error)

    async def look(self, case: Case) -> Recount:
        """How the recount of this release stands."""
        sites = await self.sites(case)
        if not sites:
            return Recount(f"A release of the kind {case.kind} is not counted again: look at the workflow.")
        if self.policy.current().own_image is None:
            return Recount("Not counted again: this node's policy names no `own_image` for its own tasks.")
        last = await self.tasks.last(case.run, job_of(case))
        if last is None:
            return Recount("Not counted again: the task could not be sent. The gateway's log says why.")
        task, state = last
        if state not in FINAL:
            return Recount(f"The node counts {len(sites)} sites again (task {task}: {state}). Look again later.")
        try:
            data = await self.tasks.workspace.content(path_of(case), MAX_RESULT) if state == "COMPLETE" else None
            if data is None:
                return Recount(f"The recount failed: task {task} ended as {state}.")
            result = RecountResult.model_validate_json(data)
        except (ProblemError, ValidationError):
            return Recount(f"The recount of task {task} cannot be read.")
        return compared(sites, result)

    async def sites(self, case: Case) -> list[tuple[Any, ...]]:
        """At most SITES rows, exact ones first, from places and by an order that only the node knows: a workflow cannot
        choose them, nor write where nobody looks.
        """
        secret = hashlib.sha256(b"gdi recount\0" + self.key.pem() + case.sha256.encode()).digest()
        digests = [hmac.digest(secret, f"place {number}".encode(), "sha256") for number in range(PLACES)]
        shown = await self.reviews.spread(case, [int.from_bytes(one[:6]) / 2**48 for one in digests], BESIDE)
        if not set(NEEDED) <= set(shown.columns):
            return []
        places = [shown.columns.index(name) for name in NEEDED]

        def order(row: tuple[Any, ...]) -> tuple[bool, bytes]:
            return row[4] != row[5], hmac.digest(secret, repr(row[:4]).encode(), "sha256")

        return sorted((tuple(row[place] for place in places) for row in shown.rows), key=order)[:SITES]

    def _reference(self, dataset: str) -> bool:
        described = self.policy.datasets.of(dataset)
        return described is not None and described.absent == "reference"

    async def _files(self, caller: Caller) -> list[list[SdaUrl]]:
        """The VCF files of each dataset: those that its descriptor names, else those of the archive."""
        found = []
        token = await self.broker.node_token(caller.run, "sda")
        for dataset in sorted(caller.datasets):
            described = self.policy.datasets.of(dataset)
            named = [one.path for one in described.files if one.format == "vcf"] if described else []
            paths = named or await self.listings.paths(caller.run, dataset, token)
            files = [SdaUrl.of(dataset, path) for path in sorted(paths) if path.endswith(VCF)]
            if not files or len(files) > MAX_FILES:
                raise SdaRefusal(
                    "NotFound", f"{dataset} has {len(files)} VCF files; 1 to {MAX_FILES} are counted again"
                )
            found.append(files)
        return found


def job_of(case: Case) -> str:
    """The task's job key at the gateway."""
    return f"{OWN_JOB}recount-{case.number}"


def path_of(case: Case) -> str:
    """Where the result lies in the workspace bucket: where no task of the run writes, and nobody outside lists."""
    return f"{case.run}/{OWN}/recount/{case.number}.json"


def compared(sites: list[tuple[Any, ...]], result: RecountResult) -> Recount:
    """What would leave beside what was counted."""
    if len(result.counts) != len(sites):
        return Recount("The recount answers for other sites than it was asked.")
    rows = []
    for (chrom, pos, ref, alt, ac_min, ac_max, an_min, an_max), (ac, an) in zip(sites, result.counts, strict=True):
        agrees = ac_min <= ac <= ac_max and an_min <= an <= an_max
        answer = f"AC {_range(ac_min, ac_max)} of AN {_range(an_min, an_max)}"
        rows.append((f"{chrom}:{pos} {str(ref)[:20]}>{str(alt)[:20]}", answer, f"AC {ac} of AN {an}", agrees))
    good = sum(row[3] for row in rows)
    more = "" if good == len(rows) else " Refuse it, unless you know why: an epoch that left people out has fewer."
    return Recount(
        f"{good} of {len(rows)} sites agree with the node's own count of {result.people} people.{more}", rows
    )


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"
