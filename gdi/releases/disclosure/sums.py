"""What `moments` and `matrix` say of people's numbers: the ledger's key of a number in a group, digits, and which part
of a sum few people may have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gdi.releases.disclosure.people import quoted
from gdi.releases.disclosure.vocabulary import EVERYBODY, LONGEST, shortened

MAX_LARGEST = 50  # people of whom is told which part of a sum they have
LEAST_OF_GROUP = 20  # people of whom a mean or a sum is told
MOST_OF_TWO = 0.85  # of a sum: nobody and no two may have so much


def group_key(number: str, group: Iterable[tuple[str, str]]) -> str:
    """What the ledger calls a number in a group, of columns with their levels in any order."""
    name = "&".join(sorted(f"{column}={quoted(level)}" for column, level in group)) or EVERYBODY
    return f"={number}|{shortened(name, LONGEST - 100)}"


def digits_of(number: float, digits: int) -> tuple[int, int]:
    """A number with so many digits, as two whole ones: digits and exponent of ten."""
    text, _, exponent = f"{number:.{digits - 1}e}".partition("e")
    return int(text.replace(".", "")), int(exponent) - digits + 1


def expect_shares(shares: Sequence[float], people: int) -> None:
    """ValueError where these are no shares of the 1, 2, … people who have most."""
    if len(shares) != min(people, MAX_LARGEST):
        raise ValueError(f"there must be a share for each person, at most {MAX_LARGEST}")
    if any(not 0 <= one <= 1 + 1e-9 for one in shares) or list(shares) != sorted(shares):
        raise ValueError("shares must rise, from 0 to 1")


def largest_share(shares: Sequence[float], floor: int) -> float:
    """The share of as many people as no count may be of, at least two."""
    return shares[min(max(2, floor - 1), len(shares)) - 1]
