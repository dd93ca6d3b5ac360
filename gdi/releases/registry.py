"""Which kinds of release are installed: entry points of the group `gdi.release_kinds`, loaded once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

from gdi.kit.problem import ProblemError
from gdi.releases.kind import Kind

GROUP = "gdi.release_kinds"


class UnknownKindError(ProblemError):
    """No such kind is installed here; the text names those that are."""

    def __init__(self, name: str) -> None:
        known = ", ".join(kinds()) or "none"
        super().__init__(
            422,
            "unknown-kind",
            f"There is no kind of release named {name[:100]!r} here.",
            action=f"Use one of these: {known}.",
        )


@cache
def kinds() -> Mapping[str, Kind]:
    """All kinds by name, sorted. RuntimeError naming an entry point that is broken: a process must not start with half
    of its checks.
    """
    found: dict[str, Kind] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        try:
            kind = entry.load()
        except Exception as error:
            raise RuntimeError(
                f"The entry point {GROUP}: {entry.name} = {entry.value} does not load: {error}"
            ) from error
        if not isinstance(kind, Kind) or kind.name != entry.name:
            raise RuntimeError(f"The entry point {GROUP}: {entry.name} = {entry.value} is no kind of that name.")
        if type(found.setdefault(kind.name, kind)) is not type(kind):
            raise RuntimeError(f"Two entry points of {GROUP} are named {entry.name}: remove one of the packages.")
    return found


def kind_of(name: str) -> Kind:
    """The kind of this name. UnknownKindError."""
    try:
        return kinds()[name]
    except KeyError:
        raise UnknownKindError(name) from None
