"""From a capability to an open, checked download; every refusal is remembered for the task it concerns and told in the
audit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from pydantic import ValidationError

from gdi.contracts.sections import MAX_PLAN, Section, SectionPlan, UnreadablePlan
from gdi.contracts.task_errors import DenialClass
from gdi.contracts.urls import HtsgetUrl, SdaUrl
from gdi.kit.problem import ProblemError
from node_gateway.archive import SdaClient
from node_gateway.audit import Audit, AuditEvent
from node_gateway.auth import Fences
from node_gateway.broker import BrokerConnection
from node_gateway.downloads import Download, SdaRefusal
from node_gateway.epochs.contents import FileContents
from node_gateway.keys import PublicKey
from node_gateway.listings import Listings
from node_gateway.metrics import Metrics
from node_gateway.policy import PolicyFile
from node_gateway.redaction import CAPABILITY_PREFIX
from node_gateway.tasks.answer import Denial
from node_gateway.tasks.store import OWN_RUN, Known, TaskStore
from node_gateway.workspace.bucket import Bucket

ACTOR = "tes"
ArchiveUrl = SdaUrl | HtsgetUrl
STATUS: dict[DenialClass, int] = {
    "AccessDenied": 403,
    "RunClosed": 403,
    "InvalidRequest": 400,
    "NotFound": 404,
    "Unavailable": 503,
    "Busy": 503,
}


class Denied(Exception):
    """A read that is refused; `status` is for a TES that can take it."""

    def __init__(self, status: int, error_class: DenialClass, reason: str) -> None:
        super().__init__(reason)
        self.status, self.error_class, self.reason = status, error_class, reason


@dataclass
class Data:
    store: TaskStore
    broker: BrokerConnection
    fences: Fences
    archive: SdaClient
    listings: Listings
    audit: Audit
    key: PublicKey
    metrics: Metrics
    streams: asyncio.Semaphore
    policy: PolicyFile
    own_token: Callable[[], str]  # of the node's own account at the archive; ProblemError 409 where it has none
    contents: FileContents
    workspace: Bucket

    async def open(self, file: SdaUrl, *, capability: str, public_key: str, method: str) -> tuple[Known, Download]:
        """Denied where the capability does not serve for this file, this key and now, or the data cannot be had."""
        known = await self.known(file, capability)
        async with self.remembering(known, file):
            if (file.dataset, file.path) not in known.inputs:
                raise Denied(403, "AccessDenied", f"The capability is for other files than {file}.")
            token = await self.token(known, file.dataset, public_key)
            section = Section.of(file)
            whole = file if section is None else section.file
            listed, files = await self.listings.with_others(known.run, whole, token)
            await self.contents.note(file.dataset, listed)
            fresh = lambda: self.token(known, file.dataset, None)  # noqa: E731
            if section is None or method != "GET":
                download = await self.archive.open(whole, listed, files, token, method, fresh)
            else:
                ranges = await self._ranges(known.run, section, listed.size)
                download = await self.archive.open_section(whole, listed, files, token, ranges, fresh)
        try:  # in the audit before the first byte leaves
            what = f"{method} {file} ({download.headers.get('content-length', 'unknown')} bytes)"
            await self.read(known, file, what)
        except BaseException:
            await download.close()
            raise
        return known, download

    async def _ranges(self, run: str, section: Section, size: int) -> list[tuple[int, int]]:
        """What a task of the run wrote that the section is. Denied."""
        plan = section.plan_file(run)
        try:
            content = await self.workspace.content(f"{plan.run}/{plan.path}", MAX_PLAN)
            if content is None:
                raise Denied(400, "InvalidRequest", f"{plan.path} has more than {MAX_PLAN} bytes.")
            ranges = SectionPlan.model_validate_json(content).ranges(section.number, size)
        except ProblemError as error:
            kind: DenialClass = "NotFound" if error.problem.status == 404 else "Unavailable"
            raise Denied(STATUS[kind], kind, f"{plan.path}: {error.problem.detail}") from None
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            raise Denied(400, "InvalidRequest", f"{plan.path} is no plan of sections ({where}).") from None
        except UnreadablePlan as error:
            raise Denied(400, "InvalidRequest", f"{plan.path}: {error}.") from None
        if not ranges:
            raise Denied(400, "InvalidRequest", f"{plan.path}: section {section.number} is empty.")
        return ranges

    async def known(self, file: ArchiveUrl, capability: str) -> Known:
        """The task that a capability is for. Denied, and the audit has it."""
        known = (
            await self.store.by_capability(capability)
            if capability.startswith(CAPABILITY_PREFIX) and len(capability) < 200
            else None
        )
        if known is None:
            denied = Denied(401, "AccessDenied", "The capability is unknown or has ended.")
            await self._tell(file, None, denied)
            raise denied
        return known

    async def token(self, known: Known, dataset: str, public_key: str | None) -> str:
        """The user's fresh token for the archive, where the dataset is described, the run is open and the key (None:
        already seen) is the registered one. Denied.
        """
        if self.policy.datasets.of(dataset) is None:
            raise Denied(403, "AccessDenied", f"The node's operator has not described the dataset {dataset}.")
        if known.key_fingerprint != self.key.fingerprint or not (public_key is None or self.key.is_header(public_key)):
            raise Denied(
                403,
                "AccessDenied",
                "Data is encrypted to this node's registered TES key only; the request names another or none.",
            )
        if (await self.fences.of(known.run)).closed >= known.attempt:
            raise Denied(403, "RunClosed", f"Attempt {known.attempt} of run {known.run} is closed.")
        try:
            if known.run == OWN_RUN:
                return self.own_token()
            await self._open_run(known)
            return await self.broker.node_token(known.run, "sda")
        except ProblemError as error:
            raise _denied(error) from None

    @asynccontextmanager
    async def remembering(self, known: Known, file: ArchiveUrl) -> AsyncIterator[None]:
        """What is refused within is remembered for the task and told in the audit; a refusal of the archive's becomes
        Denied.
        """
        try:
            try:
                yield
            except SdaRefusal as refused:
                raise Denied(STATUS.get(refused.error_class, 502), refused.error_class, refused.reason) from None
        except Denied as denied:
            await self.deny(known, file, denied)
            raise

    async def read(self, known: Known, file: ArchiveUrl, what: str) -> None:
        """A read that is allowed, for the audit."""
        await self.audit.record(
            AuditEvent("read", True, ACTOR, known.run, known.attempt, known.tes_id, file.dataset, what)
        )

    async def _open_run(self, known: Known) -> None:
        """A broker that restarts is waited for here as for a token: the TES would take a 503 for a broken task."""
        deadline = asyncio.get_running_loop().time() + self.broker.wait
        while True:
            try:
                await self.broker.open_run(known.run, known.attempt)
                return
            except ProblemError as error:
                if error.problem.status != 503 or asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(0.5)

    async def stream(self, known: Known, file: ArchiveUrl, download: Download) -> AsyncIterator[bytes]:
        """The bytes. A cut-off answer raises, so that the TES's connection breaks and a part is never taken for the
        whole.
        """
        sent = 0
        try:
            async for chunk in download.chunks:
                yield chunk
                sent += len(chunk)
                self.metrics.bytes.inc(len(chunk))
        except Denied as ended:  # it broke off, and access ended meanwhile
            await self.deny(known, file, ended)
            raise
        except httpx.HTTPError as error:
            denied = Denied(
                502,
                "Truncated",
                f"The archive's answer for {file} broke off after {sent} bytes ({type(error).__name__}).",
            )
            await self.deny(known, file, denied)
            raise denied from None

    async def deny(self, known: Known, file: ArchiveUrl, denied: Denied) -> None:
        self.metrics.denials.labels(denied.error_class).inc()
        await self.store.deny(known.number, Denial(denied.error_class, file.dataset, denied.reason))
        await self._tell(file, known, denied)

    async def _tell(self, file: ArchiveUrl, known: Known | None, denied: Denied) -> None:
        reason = f"{denied.error_class}: {denied.reason}"
        if known is None:
            await self.audit.record(AuditEvent("read", False, what=str(file), dataset=file.dataset, reason=reason))
        else:
            await self.audit.record(
                AuditEvent(
                    "read", False, ACTOR, known.run, known.attempt, known.tes_id, file.dataset, str(file), reason
                )
            )


def _denied(error: ProblemError) -> Denied:
    problem = error.problem
    if problem.status not in (403, 404):  # no verdict on the user's rights: worth another try
        return Denied(503, "Unavailable", problem.detail)
    if error.slug == "run-closed":
        return Denied(403, "RunClosed", problem.detail)
    return Denied(403, "AccessDenied", f"The broker gives no token: {problem.detail}"[:500])
