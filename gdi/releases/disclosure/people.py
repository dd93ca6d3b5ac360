"""How many people there are by category: what tables and the headers of other kinds say, checked in one place.

Of one cohort, each column is told of in one table, in margins of it, and in a larger one that has all its columns and
is judged with what it told. Tables without a common column, each of which pins nobody, pin nobody together: people may
be put together so that any two cells have as many people in common as the smaller of them has (Fréchet), and that is at
least the floor or none. Other tables that share columns would have to be judged together; so they are refused, as are
tables of other cohorts of the same people, with what may be asked instead: by the question and what left only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from urllib.parse import quote

from gdi.releases.disclosure.past import Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.disclosure.vocabulary import EVERYBODY, PEOPLE
from gdi.releases.kind import Cell, NotBesideError, Rules

NEITHER = ("other", "unknown")  # categories that every column of a table has beside its own


def quoted(level: str) -> str:
    """A category as keys have it."""
    return quote(level, safe="")


def columns_of(key: str) -> frozenset[str]:
    """The columns that a cell's key names; `?` of a long key, which was hashed."""
    if key == EVERYBODY:
        return frozenset()
    if key.startswith("sha256:"):
        return frozenset({"?"})
    return frozenset(part.partition("=")[0] for part in key.split("&"))


def admit(counts: Mapping[str, int], rules: Rules, past: Past) -> None:
    """Whether these cells of a header may leave, each exactly. NotBesideError."""
    same_people(counts.get(EVERYBODY), past)
    for key, count in counts.items():
        if key == EVERYBODY:
            continue
        if Rule.KINDS not in rules.off and not answered(columns_of(key), [key], rules, past):
            continue
        before = past.same(key, rules.off)
        if before is not None and Rule.KINDS not in rules.off and before[:2] != (count, count):
            raise NotBesideError(
                "How many cases there are was not told of these people, or other people were counted.",
                "Ask for what left before, or choose another phenotype.",
            )


def same_people(count: int | None, past: Past) -> None:
    """NotBesideError where another number of people was counted of this cohort before."""
    before = past.cells.get(EVERYBODY, {}).get(past.number) if past.number is not None else None
    if before is not None and count is not None and before[2] != count:
        raise other_people()


def other_people() -> NotBesideError:
    return NotBesideError(
        "Other people were counted of these datasets before: some lack a value, or the files changed.",
        "Ask of the same people, as columns that all of them have, or ask the node's operator for an epoch with a"
        " variable set.",
    )


def answered(columns: Collection[str], keys: Iterable[str], rules: Rules, past: Past) -> bool:
    """Whether all of it left of this cohort, so that the ledger answers; False where nothing of the columns did, so
    that it may be looked at. NotBesideError where neither is so.
    """
    spoken = [key for key in past.topics.get(PEOPLE, ()) if key != EVERYBODY]
    own = [key for key in spoken if past.number is not None and past.number in past.cells[key]]
    if own and all(past.same(key, rules.off) is not None for key in keys):
        return True
    if Rule.LINKED in rules.off:
        return False
    if any(past.own & cohort for key in spoken for cohort, _ in past.statements(key)):
        raise NotBesideError(
            "Other people, some of whom are the same, were counted by categories before.",
            "Ask of the same datasets and cohort as then, or of datasets of which nobody asked.",
        )
    not_linked(columns, own)
    return False


def not_linked(columns: Collection[str], keys: Iterable[str]) -> None:
    """NotBesideError where these keys of a cohort's tables name one of the columns."""
    of_own = {columns_of(key) for key in keys}
    if any("?" in of or not (of.isdisjoint(columns) or of <= set(columns)) for of in of_own):
        earlier = sorted({", ".join(sorted(of)) for of in of_own if not any(of < other for other in of_own)})
        raise NotBesideError(
            f"These people were counted by some of these columns before, in a table of {'; '.join(earlier)[:500]}.",
            "Ask for that table, for fewer of its columns, for all of them and more, or for columns that no table had.",
        )


def of_category(column: str, level: str, count: int, people: int, other: str) -> dict[str, int]:
    """The whole table of a column with two levels that everybody has: what is left of the `people` are `other`."""
    zeros = {f"{column}={name}": 0 for name in NEITHER}
    return {**zeros, f"{column}={quoted(level)}": count, f"{column}={quoted(other)}": people - count}


def cells(counts: Mapping[str, int]) -> list[Cell]:
    """What the ledger remembers of a header."""
    return [Cell(key, (count, count, count)) for key, count in sorted(counts.items())]
