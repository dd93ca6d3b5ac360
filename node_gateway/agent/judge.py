"""What an order or a question is worth: the broker's signature, the workflow's files, the visas' signatures, and then
the node's own decision.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
from pydantic import ValidationError

from gdi.broker_client.node_agent import NodeAgentClient
from gdi.contracts import cohorts
from gdi.contracts.cohorts import AdmissionQuestion, CohortChoice
from gdi.contracts.orders import QUESTION_TYPE, TYPE, OrderClaims, QuestionClaims
from gdi.contracts.packed_workflow import BadPackError, UnpackedWorkflow, unpacked
from gdi.contracts.workflow_files import files_with_digest
from gdi.kit.canonical import sha256_hex
from gdi.kit.jose import RemoteKeys, TokenError
from gdi.kit.problem import ProblemError
from gdi.kit.times import date
from gdi.kit.used_ids import UsedIds
from gdi.visas.visas import Passport, Visa, Visas
from node_gateway.agent.decision import Admitted, RefusedOrder, decide, need_filters, need_same_analysis, with_cohort
from node_gateway.epochs import admission
from node_gateway.node_orders import NodeOrders
from node_gateway.policy import PolicyFile
from node_gateway.stops import NodeStops

RULE = re.compile(rb"^[ \t]*(?:rule|checkpoint)[ \t]+(\w{1,100})[ \t]*:", re.MULTILINE)
MAX_RULES = 2000
QUESTION = "preflight"  # of used ids
KEPT = 86_400.0  # seconds for which a workflow's files stay after they were needed
UNSTARTED = frozenset(("taken", "refused"))  # of orders: they left no files
LEEWAY = 60.0  # seconds beyond a question's end for which it is remembered


@dataclass(frozen=True)
class VisaProofs:
    """`ends_at`: when the first of the visas ends. `lines`: by dataset, for the audit, under which visa it is used."""

    ends_at: float
    lines: dict[str, str]


@dataclass
class Judge:
    """`folder` keeps workflows' files, by digest, where the launcher looks for them. `issuer`: the broker's URL, as it
    signs.
    """

    node: str
    folder: Path
    issuer: str
    policy: PolicyFile
    keys: RemoteKeys
    visas: Visas
    orders: NodeOrders
    stops: NodeStops
    used: UsedIds
    broker: NodeAgentClient
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)  # of workflows' files: one order's pod reads them

    async def claims(self, token: str, run: str, kind: str, attempt: int) -> OrderClaims:
        try:
            found = await self.keys.verify(token, issuer=self.issuer, audience=self.node, typ=TYPE)
            claims = OrderClaims.model_validate(found)
        except (TokenError, ValidationError) as error:
            raise _unsigned(error) from None
        need_same_order(claims, run, kind, attempt, self.node)
        return claims

    async def question(self, token: str) -> QuestionClaims:
        """A preflight, proven to be the broker's, for this node, and not asked before."""
        try:
            found = await self.keys.verify(token, issuer=self.issuer, audience=self.node, typ=QUESTION_TYPE)
            claims = QuestionClaims.model_validate(found)
        except (TokenError, ValidationError) as error:
            raise _unsigned(error) from None
        if claims.node != self.node:
            raise RefusedOrder("bad-order", "It is for another node.")
        if not await self.used.add(QUESTION, claims.jti, float(found["exp"]) + LEEWAY):
            raise RefusedOrder("order-replayed", "This node was asked that before.")
        return claims

    async def admitted(self, claims: QuestionClaims, files: UnpackedWorkflow) -> tuple[Admitted, VisaProofs]:
        """What runs, and under which visas. RefusedOrder."""
        policy = self.policy.current()
        run = claims.run if isinstance(claims, OrderClaims) else ""
        passport = await self.visas.passport({"ga4gh_passport_v1": claims.visas}, claims.sub)
        if (why := await self.stops.reason(run, passport.people)) is not None:
            raise RefusedOrder("user-vetoed", f"The access committee of this node has stopped it: {why}")
        admitted = await asyncio.to_thread(decide, claims, files, passport, policy, self.policy.datasets.of)
        await self._open(claims, files, cohorts.chosen(admitted.parameters.get(cohorts.PARAMETER)))
        return admitted, _proofs(passport, claims.datasets)

    async def _open(self, claims: QuestionClaims, files: UnpackedWorkflow, cohort: CohortChoice) -> None:
        """The same decision as at the gateway's own door (`epochs.admission`), before anything runs."""
        kinds = sorted({release.kind for release in files.workflow.releases}) if cohort.part else []
        question = AdmissionQuestion(
            workflow=claims.workflow,
            digest=claims.digest,
            datasets=tuple(sorted(set(claims.datasets))),
            kinds=tuple(kinds),
            cohort=cohort,
        )
        epochs = await self.orders.open_epochs()
        try:
            admission.decide(self.policy.current(), self.policy.datasets.all(), epochs, question)
        except ProblemError as error:
            raise RefusedOrder("not-open", error.problem.detail) from None
        need_filters(files.workflow, admission.epochs_of(claims.datasets, epochs, cohort))

    async def not_older(self, claims: OrderClaims) -> None:
        if any(order.attempt > claims.attempt for order in await self.orders.of_run(claims.run)):
            raise RefusedOrder("order-older", f"A later attempt than {claims.attempt} was taken here.")

    async def one_analysis(self, claims: OrderClaims, admitted: Admitted) -> Admitted:
        """The same with its epochs' numbers: those of the run's earlier analyses, else of the newest now. RefusedOrder
        `order-differs` where an earlier analysis of the run, which may have left files, was another one.
        """
        analyses = [order for order in await self.orders.of_run(claims.run) if order.kind == "analyse"]
        earlier = [one for one in analyses if one.state not in UNSTARTED and one.nonce != claims.jti]
        parameters = need_same_analysis(claims, admitted.parameters, earlier)
        cohort = cohorts.chosen(parameters.get(cohorts.PARAMETER))
        numbers = admission.numbered(claims.datasets, await self.orders.open_epochs(), cohort)
        if earlier and (opened := sorted(set(numbers.epochs) - set(cohort.epochs))):
            raise RefusedOrder(
                "order-differs", f"An epoch of {opened[0]} opened after this run began here: start a new run."
            )
        return replace(admitted, parameters=with_cohort(parameters, numbers))

    async def analysed(self, claims: OrderClaims) -> CohortChoice:
        """A release is of what this node itself computed for this user, by this version, of these people: who they
        are, with their epochs' numbers.
        """
        cohort = cohorts.chosen(claims.parameters.get(cohorts.PARAMETER))
        done = [order for order in await self.orders.of_run(claims.run) if order.kind == "analyse"]
        # The last one counts: where it failed, half of its files may lie among those of the attempt before.
        last = max(done, key=lambda order: order.attempt, default=None)
        if last and last.state == "succeeded":
            people = cohorts.chosen(last.parameters.get(cohorts.PARAMETER))
            wanted = (claims.sub, claims.digest, sorted(claims.datasets), cohort.with_epochs(people.epochs))
            if (last.user, last.digest, sorted(last.datasets), people) == wanted:
                return people
        raise RefusedOrder("release-unknown", "Nothing of this run was computed here.")

    async def files(self, digest: str) -> UnpackedWorkflow:
        """The files of that digest, checked before they are unpacked. They are kept nowhere: `keep` does that."""
        return await self._unpacked(await self._body(digest))

    async def _unpacked(self, body: bytes) -> UnpackedWorkflow:
        try:
            return await asyncio.to_thread(unpacked, body)
        except BadPackError as error:
            raise RefusedOrder("workflow-files", f"These are no workflow's files: {error}.") from None

    async def keep(self, digest: str, files: UnpackedWorkflow) -> None:
        """Puts the files of a workflow that this node admitted where the launcher looks for them."""
        async with self.writing:
            if not await self._is_kept(digest):
                await self._write(digest, files)

    async def restore(self, digest: str) -> None:
        """The same for a workflow that was admitted before, if its files are not there: another pod's agent kept them
        in a folder that ended with it. ProblemError and httpx.HTTPError of the broker's; RefusedOrder.
        """
        async with self.writing:
            if not await self._is_kept(digest):
                await self._write(digest, await self._unpacked(await self._fetched(digest)))

    async def _is_kept(self, digest: str) -> bool:
        return await asyncio.to_thread(_is_whole, *self._places(digest), digest)

    async def _write(self, digest: str, files: UnpackedWorkflow) -> None:
        place, pack = self._places(digest)
        try:
            await asyncio.to_thread(files.write, place)
            await asyncio.to_thread(pack.write_bytes, files.packed())
        except OSError as error:
            raise RefusedOrder(
                "workflow-files", f"The workflow's files cannot be kept here ({error.strerror})."
            ) from None

    async def tidy(self) -> int:
        """Removes the files of workflows that no order at work needs, once they are a day old: they can be had again.
        How many those were.
        """
        needed = {self._places(order.digest)[0].name for order in await self.orders.unfinished()}
        return await asyncio.to_thread(_tidied, self.folder, needed)

    def _places(self, digest: str) -> tuple[Path, Path]:
        place = self.folder / digest.replace(":", "-")
        return place, place.with_suffix(".pack")

    async def _body(self, digest: str) -> bytes:
        pack = self._places(digest)[1]
        if pack.is_file() and has_digest(kept := await asyncio.to_thread(pack.read_bytes), digest):
            return kept
        try:
            return await self._fetched(digest)
        except ProblemError as error:
            raise RefusedOrder("workflow-away", f"The broker has not the workflow's files ({error.slug}).") from None
        except httpx.HTTPError as error:
            raise RefusedOrder(
                "workflow-away", f"The workflow's files cannot be had ({type(error).__name__})."
            ) from None

    async def _fetched(self, digest: str) -> bytes:
        body = await self.broker.workflow(digest)
        if not has_digest(body, digest):
            raise RefusedOrder("workflow-files", "The workflow's files have another digest.")
        return body


def need_same_order(claims: OrderClaims, run: str, kind: str, attempt: int, node: str) -> None:
    if (claims.run, claims.kind, claims.attempt, claims.node) != (run, kind, attempt, node):
        raise RefusedOrder("bad-order", "What is signed is another order than the one that it came as.")


def has_digest(body: bytes, digest: str) -> bool:
    return "sha256:" + sha256_hex(body) == digest


def _is_whole(place: Path, pack: Path, digest: str) -> bool:
    """Whether folder and pack are of that digest: the launcher reads the folder, and takes no other."""
    try:
        return has_digest(pack.read_bytes(), digest) and bool(files_with_digest(place, digest))
    except (OSError, ValueError):
        return False


def _tidied(folder: Path, needed: set[str]) -> int:
    found = 0
    for place in folder.glob("sha256-*"):
        if place.stem not in needed and time.time() - place.lstat().st_mtime > KEPT:
            found += place.is_dir()
            shutil.rmtree(place, ignore_errors=True) if place.is_dir() else place.unlink(missing_ok=True)
    return found


def rules_in(files: UnpackedWorkflow) -> list[str]:
    """The names of rules that the files have: what an unapproved workflow may tell of is among them."""
    return sorted({name.decode() for body in files.files.values() for name in RULE.findall(body)})[:MAX_RULES]


def _unsigned(error: Exception) -> RefusedOrder:
    return RefusedOrder("bad-order", f"It is not signed by the broker for this node: {short(error)}")


def _proofs(passport: Passport, datasets: list[str]) -> VisaProofs:
    found = {dataset: visa for dataset in datasets if isinstance(visa := passport.access(dataset), Visa)}
    lines = {
        dataset: f"{dataset}: {visa.source} ({visa.by or visa.iss}), until {date(visa.ends_at)}"
        + (f", of {visa.sub}" if visa.link else "")
        for dataset, visa in found.items()
    }
    return VisaProofs(min(visa.ends_at for visa in found.values()), lines)


def short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return ", ".join(".".join(str(p) for p in e["loc"]) for e in error.errors()[:5])
    return (str(error) or type(error).__name__)[:300]
