"""Sections of an archive's file: `sda://DATASET/.gdi/sections/PLAN/NUMBER/path` is of `path` only what section NUMBER
of the run's own file `sections/PLAN.json` names, as byte ranges of the decrypted file.

A task reads an index and writes the plan; the tasks after it get their sections, and the archive is asked for no more
than the Crypt4GH segments that they lie in (decision 856). A TES sees a URL like any other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from gdi.contracts.urls import OWN, SdaUrl, WorkspaceUrl
from gdi.kit.models import Frozen

MAX_PLAN = 1024 * 1024  # bytes of a plan: what reads it stands still meanwhile
_FORM = re.compile(rf"{re.escape(OWN)}/sections/([^/]{{1,200}})/([0-9]{{1,5}})/(.+)")

Place = Annotated[int, Field(ge=-(2**50), le=2**50)]


class UnreadablePlan(ValueError):
    """A plan that does not name this section; the text says why."""


@dataclass(frozen=True)
class Section:
    """`number` (from 0) of a plan, of the file `file`."""

    file: SdaUrl
    plan: str
    number: int

    @classmethod
    def of(cls, url: SdaUrl) -> Section | None:
        """None where the URL is of a whole file."""
        found = _FORM.fullmatch(url.path)
        return cls(SdaUrl(url.owner, found[3]), found[1], int(found[2])) if found else None

    @property
    def url(self) -> SdaUrl:
        return SdaUrl(self.file.owner, f"{OWN}/sections/{self.plan}/{self.number}/{self.file.path}")

    def plan_file(self, run: str) -> WorkspaceUrl:
        """Where the run's task has written the plan."""
        return WorkspaceUrl(run, f"sections/{self.plan}.json")


class SectionPlan(Frozen):
    """`sections`: of each its ranges `[start, end)` in bytes of the decrypted file, rising. A negative number
    counts from the file's end, an `end` of null is the end.
    """

    format: Literal["gdi-sections/1"]
    sections: tuple[tuple[tuple[Place, Place | None], ...], ...] = Field(max_length=10_000)

    def ranges(self, number: int, size: int) -> list[tuple[int, int]]:
        """The ranges of a section in a file of `size` bytes: none is empty, none touches another. UnreadablePlan."""
        if number >= len(self.sections):
            raise UnreadablePlan(f"the plan has {len(self.sections)} sections, and no number {number}")
        found: list[tuple[int, int]] = []
        for first, last in self.sections[number]:
            start = max(0, first + size if first < 0 else first)
            end = size if last is None else min(size, last + size if last < 0 else last)
            if end <= start:
                continue
            if found and start < found[-1][0]:
                raise UnreadablePlan("the ranges of a section do not rise")
            if found and start <= found[-1][1]:
                found[-1] = (found[-1][0], max(end, found[-1][1]))
            else:
                found.append((start, end))
        return found
