"""What a kind of release is. `Kind` is light: a name and a few words. Its two halves are modules of their own, loaded
where they are used: the node's half draws nothing, the coordinator's half knows no check and no database.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from gdi.releases.answer import Column, Page, read_page
from gdi.releases.disclosure.past import Past
from gdi.releases.rules import Rules as Rules
from gdi.releases.rules import Scope as Scope

if TYPE_CHECKING:
    from gdi.releases.columns import ColumnCheck, ColumnMerge

U = TypeVar("U")  # what is judged together: a site, a table, a group
L = TypeVar("L")  # what leaves of it
R = TypeVar("R")  # one node's release, as the coordinator read it
A = TypeVar("A")  # the answer, merged of all nodes' releases


class FormatError(Exception):
    """At the node: the file is not of its kind. The text names the place and the field, never a value."""


class BadReleaseError(Exception):
    """At the coordinator: a node's release is not of its kind. The text names node and place, never a value."""


class NotBesideError(Exception):
    """At the node: this may not be asked beside what left of the same people. It depends on the question and on what
    left only. `action`: what the user can ask instead.
    """

    def __init__(self, why: str, action: str) -> None:
        super().__init__(why)
        self.action = action


class Cell(NamedTuple):
    """What the ledger remembers of one answer. `key` names it within the kind, equal for equal things (at most 2,100
    characters, ASCII); `numbers`, at least one, say what was answered and how many people it is about, always in the
    same order (at most 480 characters with commas between them).
    """

    key: str
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class CheckedUnits(Generic[L]):
    """What leaves of some units, in their order; how many were withheld for each reason; and the cells of what stays,
    which the ledger remembers as well, so that the same question gets the same answer.
    """

    released: list[L]
    withheld: Counter[str]
    kept: list[Cell] = field(default_factory=list)


class NodeHalf(ABC, Generic[U, L]):
    """The node's half. Every method is pure: no clock, no network, no database; only the file that it is given."""

    columns: ClassVar[tuple[str, ...]]  # of the reviewer's table

    @abstractmethod
    def read(self, file: IO[bytes], rules: Rules) -> Sequence[U]:
        """A workflow's file as units, in an order that carries no message. FormatError where it is not of this kind or
        has more than `rules.max_rows` rows.
        """

    @abstractmethod
    def keys(self, unit: U) -> Iterable[str]:
        """The keys of the cells that the check of this unit compares with what left before."""

    def scope(self, units: Sequence[U]) -> Scope:
        """What all units together are about."""
        return Scope()

    def passing(self, units: Sequence[U], rules: Rules) -> frozenset[str]:
        """The keys of these units' cells that pass by themselves, each with all its numbers exact: of a level of a
        split.
        """
        return frozenset()

    @abstractmethod
    def check(self, units: Sequence[U], rules: Rules, past: Past) -> CheckedUnits[L]:
        """The verdict on these units. `past` has what left of all their keys. Called for one batch after another."""

    @abstractmethod
    def cells(self, left: L) -> Iterable[Cell]:
        """What the ledger remembers of what leaves."""

    def shown(self, left: Sequence[L]) -> Mapping[str, int] | None:
        """By reason, how many units the release itself lists without their numbers; None of a kind that lists none. The
        centre is told of no others: how many those are would say what the file has.
        """
        return None

    def remarks(self, left: Sequence[L], rules: Rules) -> list[str]:
        """What a person of the node should look at before this leaves: cells nearest the floor, values that look odd.
        Sentences, for the node's own page only.
        """
        return []

    @abstractmethod
    def write(self, out: IO[bytes], left: Iterable[L], withheld: Mapping[str, int], scope: Scope, rules: Rules) -> None:
        """Writes the file that leaves: our own serialisation of checked numbers, nothing of the input's text. Equal
        answers give equal bytes: the node signs their SHA-256. `withheld`: as the centre may know it.
        """

    @abstractmethod
    def rows(self, file: IO[bytes], start: int, count: int) -> list[tuple[str | int | float, ...]]:
        """At most `count` rows from `start` (0 is the first) of a file that `write` made, which is at its beginning, by
        `columns`: for the reviewer.
        """

    def column_check(self) -> ColumnCheck | None:
        """A new check of the kind's Parquet files; None where it has no such files."""
        return None


@dataclass(frozen=True)
class Size:
    """`rows` of an answer, of which `withheld` are intervals, or have no numbers, because of a node."""

    rows: int
    withheld: int


class CoordinatorHalf(ABC, Generic[R, A]):
    """The coordinator's half. What a method writes goes into the file that it is given."""

    columns: ClassVar[tuple[Column, ...]]  # of the answer's table

    @abstractmethod
    def read(self, node: str, file: Path) -> R:
        """A node's release, whose signature was verified. BadReleaseError naming node and place."""

    @abstractmethod
    def merge(self, releases: Mapping[str, R], nodes: Sequence[str]) -> A:
        """One answer of the releases by node. `nodes`: all nodes of the run."""

    @abstractmethod
    def size(self, answer: A) -> Size:
        """How much the answer holds."""

    @abstractmethod
    def write_table(self, answer: A, file: Path) -> None:
        """The answer as tab-separated text (UTF-8): a line of `columns`, then a line for each row; withheld numbers are
        empty.
        """

    @abstractmethod
    def draw(self, answer: A, file: Path, *, title: str, nodes: Sequence[str]) -> None:
        """The answer as PNG or SVG, by the file's suffix. Plotting libraries are imported inside."""

    def page(self, file: Path) -> Page:
        """What the Results tab shows of a table that `write_table` made, in bounded memory. A kind with a drawing of
        its own in the page adds to it. ValueError where the file is no such table.
        """
        return read_page(file, self.columns)

    def column_merge(self) -> ColumnMerge | None:
        """The merge of the kind's Parquet files, and what it shows of its answer; None where it has no such files."""
        return None


class Kind(ABC):
    """A kind of release, registered under its name as an entry point of the group `gdi.release_kinds`.

    `unit` is what leaves whole or not at all, `row` a row of the answer: nouns in the singular. `reasons` says in words
    why a unit is withheld, `central` are those that the centre is told. Released files are of `media_type` and end in
    `suffix`. `named_only`: a dataset is asked for it only where its descriptor names the kind, because its numbers are
    exact sums, or not compared with those of other kinds: not in the words of `gdi.releases.disclosure.vocabulary`.
    `parquet`: files may also be Parquet, and then leave as Parquet.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "row"
    row: ClassVar[str] = "row"
    reasons: ClassVar[Mapping[str, str]] = {}
    central: ClassVar[frozenset[str]] = frozenset()
    media_type: ClassVar[str] = "application/json"
    suffix: ClassVar[str] = ".json"
    named_only: ClassVar[bool] = True
    parquet: ClassVar[bool] = False

    @property
    def format(self) -> str:
        """The name of the files' format, `gdi-<name>/<version>`."""
        return f"gdi-{self.name}/{self.version}"

    @abstractmethod
    def node(self) -> NodeHalf[Any, Any]:
        """The node's half, imported now. Its units are the kind's own business: Any."""

    @abstractmethod
    def coordinator(self) -> CoordinatorHalf[Any, Any]:
        """The coordinator's half, imported now."""
