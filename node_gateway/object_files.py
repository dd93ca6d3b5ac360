"""Which file of a run's datasets a DRS object is: what its server says, held against the archive's listing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from tes.models import Task

from gdi.contracts.drs import DrsObject
from gdi.contracts.tes import changed
from gdi.contracts.urls import DrsUrl
from gdi.kit.named_lock import Locks, NamedLock
from gdi.kit.problem import ProblemError
from gdi.kit.recent import RecentValues
from node_gateway.audit import Audit, AuditEvent
from node_gateway.auth import Caller
from node_gateway.broker import BrokerConnection
from node_gateway.downloads import SdaRefusal
from node_gateway.drs import ArchiveFile, DrsClient, shown
from node_gateway.listed_files import Files, Listed, sealed
from node_gateway.listings import FRESH_FOR, Listings
from node_gateway.locations import drs_object

MAX_KEPT, MAX_LISTINGS = 10_000, 50
MAX_PARTS = 200  # of an access URL's path
AT_ONCE = 16
HEADER_START, PACKET, MAX_PACKETS = 16, 108, 8  # Crypt4GH: bytes of a header without packets, and of one with a key


class ObjectFiles:
    """Which file of a run's datasets a DRS object is; answers are kept a few seconds."""

    def __init__(self, servers: DrsClient, listings: Listings, broker: BrokerConnection, audit: Audit) -> None:
        self._servers, self._listings, self._broker, self._audit = servers, listings, broker, audit
        self._kept = RecentValues[tuple[str, str], ArchiveFile](FRESH_FOR, MAX_KEPT)
        self._files_kept = RecentValues[tuple[str, frozenset[str]], _Files](FRESH_FOR, MAX_LISTINGS)
        self._listing: Locks = {}  # one of a task's workers lists, the others wait for what it finds

    async def task_of_files(self, task: Task, caller: Caller, most: int) -> Task:
        """The task with `sda://` for each `drs://`, at most `most` of them. ProblemError as `find`."""
        inputs = list(task.inputs or [])
        places = [n for n, given in enumerate(inputs) if (given.url or "").startswith("drs://")]
        if not places:
            return task
        if len(places) > most:
            detail = f"The task has {len(places)} drs:// inputs; this node allows {most}."
            raise ProblemError(403, "too-many-files", detail, action="Split the job.")
        waiting = iter(places)

        async def worker() -> None:
            for place in waiting:
                found = await self.find(inputs[place].url or "", caller)
                inputs[place] = changed(inputs[place], url=str(found.url))

        workers = [asyncio.ensure_future(worker()) for _ in range(min(AT_ONCE, len(places)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for one in workers:
                one.cancel()
        return changed(task, inputs=inputs)

    async def find(self, text: str, caller: Caller) -> ArchiveFile:
        """ProblemError 403 where it is no file of the run's datasets or another than the archive lists; and as
        `DrsClient.object`.
        """
        url = drs_object(text)
        kept = self._kept.get((caller.run, text))
        if kept is not None and kept.dataset in caller.datasets:
            return kept
        found = await self._find(url, caller)
        self._kept.keep((caller.run, text), found)
        what = f"{url} is {found.url}"
        await self._audit.record(
            AuditEvent("object-found", True, caller.actor, caller.run, caller.attempt, "", found.dataset, what)
        )
        return found

    async def _find(self, url: DrsUrl, caller: Caller) -> ArchiveFile:
        by_file = "{path}" in self._servers.server(url)
        token = await self._broker.node_token(caller.run, "sda")
        known = await self._files(caller, token)
        if by_file:
            file = known.by_id.get(url.id)
            if file is None:
                raise _foreign(url)
            found, named = await self._servers.object(url, token, file), False
            if found.id != url.id:
                raise _another(url, file, "the server's object has another id")
        else:
            found = await self._servers.object(url, token)
            file, named = known.place(found, url)
            if file is None:
                raise _foreign(url)
        if known.doubled(file):
            raise _doubled(url, file)
        if why := _why_another(found, file.listed, named=named):
            raise _another(url, file, why)
        return file

    async def _files(self, caller: Caller, token: str) -> _Files:
        """Of the run's datasets that the archive opens to the user. ProblemError where it opens none, or fails."""
        key = (caller.run, caller.datasets)
        async with NamedLock(self._listing, " ".join((caller.run, *sorted(caller.datasets)))):
            files = self._files_kept.get(key)
            if files is None:
                files = await self._listed(caller, token)
                self._files_kept.keep(key, files)
            return files

    async def _listed(self, caller: Caller, token: str) -> _Files:
        found: dict[str, Files] = {}
        closed: SdaRefusal | None = None
        for dataset in sorted(caller.datasets):
            try:
                found[dataset] = await self._listings.within(caller.run, dataset, token)
            except SdaRefusal as error:
                if error.error_class != "AccessDenied":
                    raise error.problem(dataset) from None
                closed = error
        files = await asyncio.to_thread(_Files, found)  # half a second for 100,000 files
        if closed is not None and not files.some:
            raise closed.problem("")
        return files


class _Files:
    """All files of a run's datasets, by the archive's id, by dataset and path, and by name."""

    def __init__(self, datasets: Mapping[str, Files]) -> None:
        files = [ArchiveFile(dataset, listed) for dataset, within in datasets.items() for listed in within.all()]
        self.some = bool(files)
        self.by_id = {file.listed.id: file for file in reversed(files) if file.listed.id}
        self._by_path: dict[str, ArchiveFile] = {}
        self._doubled: set[str] = set()
        self._by_name: dict[str, list[ArchiveFile]] = {}
        for file in files:
            if file.place in self._by_path:
                self._doubled.add(file.place)
            self._by_path[file.place] = file
            self._by_name.setdefault(file.place.rpartition("/")[2], []).append(file)

    def doubled(self, file: ArchiveFile) -> bool:
        """Whether another file of its dataset has its path, with or without `.c4gh`: a task gets one by its path."""
        return file.place in self._doubled

    def place(self, found: DrsObject, url: DrsUrl) -> tuple[ArchiveFile | None, bool]:
        """The file that an object says it is, and whether its name alone says so: by the archive's id, by where an
        access method leads (`…/files/ID…` as SDA has it, or `…/DATASET/path` as SDA and S3 have it), by its name.
        """
        methods = [m.access_url.url for m in found.access_methods or [] if m.access_url is not None]
        parts = [_parts_of(one) for one in methods]
        after = [b for path in parts for a, b in itertools.pairwise(path) if a == "files"]
        for id_ in (found.id, url.id, *after):
            if id_ in self.by_id:
                return self.by_id[id_], False
        for path in parts:
            for start in range(min(len(path), MAX_PARTS)):
                if (file := self._by_path.get("/".join(path[start:]).removesuffix(".c4gh"))) is not None:
                    return file, False
        named = self._by_name.get((found.name or "").removesuffix(".c4gh"), [])
        return (named[0], True) if len(named) == 1 else (None, True)


def _parts_of(url: str) -> list[str]:
    """Of its path, each decoded."""
    try:
        return [unquote(part) for part in urlsplit(url).path.split("/")]
    except ValueError:
        return []


def _why_another(found: DrsObject, listed: Listed, *, named: bool) -> str:
    """Why the object is not the listed file; "" where nothing speaks against it. An object is the file itself or its
    Crypt4GH form, with or without header; of the latter the listing has no checksum. `named`: its name alone says that
    it is that file, so its checksum must say so too.
    """
    if listed.size <= 0:
        return "the archive does not say how large the file is"
    header = found.size - sealed(listed.size)
    encrypted = header in (0, *(HEADER_START + n * PACKET for n in range(1, MAX_PACKETS + 1)))
    if found.size != listed.size and not encrypted:
        return f"it has {found.size} bytes, and the archive lists {listed.size}"
    sums = found.checksums_of(len(listed.checksum)) if found.size == listed.size else set()
    if sums and sums != {listed.checksum}:
        return "its checksum is not the one that the archive lists"
    if named and not sums:
        return "it has the file's name, and no checksum that the archive lists"
    return ""


def _foreign(url: DrsUrl) -> ProblemError:
    detail = f"{shown(url)} is no file of this run's datasets at this node."
    return ProblemError(403, "dataset-not-granted", detail, action="Start a run that names the object's dataset.")


def _doubled(url: DrsUrl, file: ArchiveFile) -> ProblemError:
    detail = f"{shown(url)} is {file.url}, and so is another file of its dataset: with `.c4gh`, and without."
    action = "Tell the archive's operator: each file needs a path of its own."
    return ProblemError(403, "object-differs", detail, action=action, dataset=file.dataset)


def _another(url: DrsUrl, file: ArchiveFile, why: str) -> ProblemError:
    detail = f"{shown(url)} is not {file.url} as the archive lists it: {why}."
    action = "Tell the node's operator: the archive and its DRS server do not agree."
    return ProblemError(403, "object-differs", detail, action=action, dataset=file.dataset)
