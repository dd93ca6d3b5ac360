"""What a kind of release is. `Kind` is light: a name and a few words. Its two halves are modules of their own, loaded
where they are used: the node's half draws nothing, the coordinator's half knows no check and no database.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, Generic, NamedTuple, TypeVar

from gdi.releases.answer import Column, Page, read_page

U = TypeVar("U")  # what leaves a node whole or not at all: a site, a table, a group
R = TypeVar("R")  # one node's release, as the coordinator read it
A = TypeVar("A")  # the answer, merged of all nodes' releases


class FormatError(Exception):
    """At the node: the file is not of its kind. The text names the place and the field, never a value."""


class BadReleaseError(Exception):
    """At the coordinator: a node's release is not of its kind. The text names node and place, never a value."""


@dataclass(frozen=True)
class Rules:
    """What the node's policy sets for every kind: `floor`, the smallest non-zero count of people that may leave, and
    `max_rows`, the most rows that the node looks at.
    """

    floor: int
    max_rows: int


class Cell(NamedTuple):
    """What the ledger remembers of one thing that left. `key` names it within the kind, equal for equal things (at most
    2,100 characters, ASCII); `numbers`, at least one, are all counts that a reader has or can work out, always in the
    same order (at most 480 characters with commas between them).
    """

    key: str
    numbers: tuple[int, ...]


Before = Mapping[str, Iterable[tuple[int, ...]]]
"""What left this node before, by a cell's key: each time its numbers."""


@dataclass(frozen=True)
class CheckedUnits(Generic[U]):
    """What may leave of some units, in their order, and how many were withheld for each reason."""

    released: list[U]
    withheld: Counter[str]


class NodeHalf(ABC, Generic[U]):
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

    @abstractmethod
    def check(self, units: Sequence[U], rules: Rules, before: Before) -> CheckedUnits[U]:
        """The verdict on these units. `before` has what left of all their keys. Called for one batch after another."""

    @abstractmethod
    def cells(self, unit: U) -> Iterable[Cell]:
        """What the ledger remembers of a unit that leaves."""

    @abstractmethod
    def write(self, out: IO[bytes], units: Iterable[U], withheld: Mapping[str, int]) -> None:
        """Writes the file that leaves: our own serialisation of checked numbers, nothing of the input's text. Equal
        units give equal bytes: the node signs their SHA-256.
        """

    @abstractmethod
    def rows(self, file: IO[bytes], start: int, count: int) -> list[tuple[str | int | float, ...]]:
        """At most `count` rows from `start` (0 is the first) of a file that `write` made, which is at its beginning, by
        `columns`: for the reviewer.
        """


@dataclass(frozen=True)
class Size:
    """`rows` of an answer, of which `withheld` have no numbers because of a node."""

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
        """The answer as a PNG. Plotting libraries are imported inside."""

    def page(self, file: Path) -> Page:
        """What the Results tab shows of a table that `write_table` made, in bounded memory. A kind with a drawing of
        its own in the page adds to it. ValueError where the file is no such table.
        """
        return read_page(file, self.columns)


class Kind(ABC):
    """A kind of release, registered under its name as an entry point of the group `gdi.release_kinds`.

    `unit` is what leaves whole or not at all, `row` a row of the answer: nouns in the singular. `reasons` says in words
    why a unit is withheld. Released files are of `media_type` and end in `suffix`.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "row"
    row: ClassVar[str] = "row"
    reasons: ClassVar[Mapping[str, str]] = {}
    media_type: ClassVar[str] = "application/json"
    suffix: ClassVar[str] = ".json"

    @property
    def format(self) -> str:
        """The name of the files' format, `gdi-<name>/<version>`."""
        return f"gdi-{self.name}/{self.version}"

    @abstractmethod
    def node(self) -> NodeHalf[Any]:
        """The node's half, imported now. Its units are the kind's own business: Any."""

    @abstractmethod
    def coordinator(self) -> CoordinatorHalf[Any, Any]:
        """The coordinator's half, imported now."""
