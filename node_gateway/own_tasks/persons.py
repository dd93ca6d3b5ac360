"""The list of a dataset's persons for an epoch: a task that the node sends to its own TES, over the VCF files and the
sample table that the descriptor names. Its result is read by the gateway only, which finds who is there twice, keeps
keyed hashes of the ids, and deletes it (docs/disclosure.md, 1).
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from gdi.contracts.descriptor import Descriptor
from gdi.contracts.tes import FINAL
from gdi.contracts.urls import SdaUrl
from gdi.kit.canonical import sha256_hex
from gdi.kit.jose import SigningKey
from gdi.kit.models import Strict
from gdi.kit.problem import ProblemError
from gdi.kit.secret_files import read_secret_text
from gdi.kit.settings import SettingsError
from gdi.releases.disclosure import duplicates
from gdi.releases.disclosure.variants import Variant
from node_gateway.archive import SdaClient
from node_gateway.auth import Caller
from node_gateway.db.store import GatewayDatabase
from node_gateway.downloads import SdaRefusal
from node_gateway.epochs import command, persons
from node_gateway.epochs.command import EpochRefused, Opening
from node_gateway.epochs.persons import PersonsError
from node_gateway.listed_files import Files
from node_gateway.own_tasks.tasks import VCF, OwnTask, OwnTasks
from node_gateway.policy import PolicyFile
from node_gateway.tasks.store import OWN_JOB, OWN_RUN

MAX_FILES = 2000
MAX_RESULT = 64 * 1024 * 1024
MAX_PEOPLE = 1_000_000
Id = Annotated[str, Field(min_length=1, max_length=persons.MAX_ID)]


class PersonsResult(Strict):
    """What the task writes: the files' samples, their copies at each common site (a letter a person), and the sample
    table's bytes in base64; or what is wrong with the files.
    """

    people: list[Id] = Field(default_factory=list, max_length=MAX_PEOPLE)
    copies: list[Annotated[str, Field(max_length=MAX_PEOPLE, pattern=r"^[012.]*$")]] = Field(
        default_factory=list, max_length=duplicates.SITES
    )
    table: str = ""
    error: Annotated[str, Field(max_length=200)] = ""


class PersonsWish(Strict):
    """`POST /epochs/{dataset}` on the internal listener: as the options of `node-gateway epoch open`."""

    min_difference: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    others_leave: bool = False
    same_people: bool = False
    dry_run: bool = False


class PersonsAnswer(Strict):
    """How it stands, in plain sentences: no id is in it but of people who are there twice."""

    state: str
    sentence: str


def own_token(file: Path | None) -> str:
    """The token of the node's own account at the archive, read anew. ProblemError 409 where there is none."""
    if file is None:
        action = "Set NODE_GATEWAY_ARCHIVE_TOKEN_FILE, or list the people yourself: `epoch persons FILE…`."
        raise ProblemError(409, "not-open", "This node has no account of its own at the archive.", action=action)
    try:
        return read_secret_text(file, "ARCHIVE_TOKEN_FILE")
    except SettingsError as error:
        raise ProblemError(409, "not-open", str(error), action="Mend the file.") from None


@dataclass
class PersonLists:
    """`token_file`: an access token of the node's own account at the archive, read anew; None: there is none."""

    node: str
    database: GatewayDatabase
    tasks: OwnTasks
    policy: PolicyFile
    archive: SdaClient
    key: SigningKey
    token_file: Path | None

    async def begin(self, dataset: str) -> PersonsAnswer:
        """Sends the task. ProblemError where the dataset is not described exactly, or its files cannot be had."""
        described = self._described(dataset)
        caller = Caller(
            "operator", OWN_RUN, self.node, 1, "epoch-persons", "", frozenset({dataset}), frozenset(), 1, "operator"
        )
        own_token(self.token_file)
        try:
            files = await self._files(described)
        except SdaRefusal as error:
            action = "Look at the archive, and at ARCHIVE_TOKEN_FILE."
            raise ProblemError(409, "not-open", f"The archive: {error.reason}", action=action) from None
        own = OwnTask(_job(dataset), "persons", [files], "", _path(dataset))
        task = await self.tasks.send(caller, own, as_service=True)
        return PersonsAnswer(state="QUEUED", sentence=f"Task {task} reads {len(files)} files of {dataset}.")

    async def look(self, dataset: str) -> PersonsAnswer:
        """How the last task stands, and what it found."""
        state = await self._state(dataset)
        if state != "COMPLETE":
            sentence = "It ended without a result." if state in FINAL else "No result yet: ask again later."
            return PersonsAnswer(state=state, sentence=sentence)
        try:
            result = await self._result(dataset)
            return PersonsAnswer(state=state, sentence=_found(result, self._described(dataset)))
        except PersonsError as error:
            return PersonsAnswer(state=state, sentence=str(error))

    async def open(self, dataset: str, wish: PersonsWish) -> PersonsAnswer:
        """Opens the next epoch with the people of the last task. ProblemError 409 with a sentence for each part that is
        too small, and where somebody is there twice.
        """
        described = self._described(dataset)
        if await self._state(dataset) != "COMPLETE":
            raise _refused("There is no finished list of persons", "Send the task: `epoch persons --dataset`.")
        try:
            result = await self._result(dataset)
            _found(result, described)
            with _table(result) as file:
                table = described.samples is not None
                if not table:
                    file.write_text("".join(f"{one}\n" for one in result.people), encoding="utf-8")
                people, samples = (None, file) if table else (file, None)
                least, leave, same = wish.min_difference, wish.others_leave, wish.same_people
                opening = Opening(dataset, people, samples, least, leave, described, same)
                sentence = await command.open_(self.database, self.key, opening, dry_run=wish.dry_run)
        except (PersonsError, EpochRefused) as error:
            raise _refused(f"The epoch does not open: {error}", "Read which part, and wait or change it.") from None
        if not wish.dry_run:
            await self.tasks.workspace.delete(_path(dataset))
        return PersonsAnswer(state="dry-run" if wish.dry_run else "open", sentence=sentence)

    def _described(self, dataset: str) -> Descriptor:
        described = self.policy.datasets.of(dataset)
        if described is None or not described.exact:
            raise _refused(f"{dataset} has no descriptor of its own", "Write one, and run `node-gateway check`.")
        return described

    async def _files(self, described: Descriptor) -> list[SdaUrl]:
        named = [one.path for one in described.files if one.format == "vcf"]
        if not named:
            listed = Files(described.dataset, await self.archive.files(described.dataset, own_token(self.token_file)))
            named = [one.path for one in listed.all()]
        paths = sorted(path for path in named if path.endswith(VCF))
        if not 1 <= len(paths) <= MAX_FILES:
            raise SdaRefusal("NotFound", f"{described.dataset} has {len(paths)} VCF files, not 1 to {MAX_FILES}")
        if described.samples is not None:
            paths.append(described.samples.file)
        return [SdaUrl.of(described.dataset, path) for path in paths]

    async def _state(self, dataset: str) -> str:
        last = await self.tasks.last(OWN_RUN, _job(dataset))
        if last is None:
            return "NONE"
        task, state = last
        if state in FINAL:  # no run is closed here: the right to read ends with the task
            await self.tasks.store.ended({task: state})
        return state

    async def _result(self, dataset: str) -> PersonsResult:
        try:
            data = await self.tasks.workspace.content(_path(dataset), MAX_RESULT)
            if data is None:
                raise PersonsError(f"the list is larger than {MAX_RESULT} bytes")
            return PersonsResult.model_validate_json(data)
        except (ProblemError, ValidationError):
            raise PersonsError("the task's list cannot be read, or was used before: send the task again") from None


def _found(result: PersonsResult, described: Descriptor) -> str:
    """What the operator reads. PersonsError where the list cannot be used."""
    if result.error:
        raise PersonsError(result.error)
    people = result.people
    if not people or len(set(people)) != len(people) or any(len(site) != len(people) for site in result.copies):
        raise PersonsError("the files name nobody, or somebody twice")
    if len(result.copies) < duplicates.FEWEST:
        raise PersonsError(f"the files have {len(result.copies)} common sites; {duplicates.FEWEST} are needed")
    sites = [
        (Variant("1", place, "A", "C"), [-1 if one == "." else int(one) for one in site])
        for place, site in enumerate(result.copies, 1)
    ]
    twins = duplicates.pairs(duplicates.genomes(people, sites))
    if twins:
        names = "; ".join(f"{one} and {other}" for one, other in twins[:20])
        raise PersonsError(f"duplicate-people: {len(twins)} pairs of ids have one person's genotypes: {names}")
    if described.samples is None:
        return f"{len(people)} people, none of them twice."
    with _table(result) as file:
        named = set(persons.column(file, described.samples.sample or described.samples.person))
    if named != set(people):
        missing, more = len(set(people) - named), len(named - set(people))
        raise PersonsError(f"the sample table lacks {missing} people of the files, and has {more} that they have not")
    return f"{len(people)} people, none of them twice, each with a row of the sample table."


@contextmanager
def _table(result: PersonsResult) -> Iterator[Path]:
    """The sample table as a file, which is gone afterwards. PersonsError."""
    try:
        data = base64.b64decode(result.table, validate=True)
    except ValueError:
        raise PersonsError("the sample table of the list cannot be read") from None
    with tempfile.TemporaryDirectory() as folder:  # mode 0700
        file = Path(folder) / "sample-table"
        file.write_bytes(data)
        yield file


def _job(dataset: str) -> str:
    return f"{OWN_JOB}persons-{_short(dataset)}"


def _path(dataset: str) -> str:
    """Below no run: nothing else names it."""
    return f"{OWN_RUN}/persons/{_short(dataset)}.json"


def _short(dataset: str) -> str:
    return sha256_hex(dataset.encode())[:32]  # an id may be a URL


def _refused(detail: str, action: str) -> ProblemError:
    return ProblemError(409, "not-open", f"{detail}.", action=action)
