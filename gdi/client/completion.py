"""Names for the shell's completion, as the portal has them now: what cannot be had in two seconds is not offered."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable

import httpx

from gdi.client.client import PortalClient
from gdi.kit.problem import ProblemError

WITHIN, MOST = 2.0, 100  # seconds, names


def _offered(incomplete: str, names: Callable[[PortalClient], Iterable[str]]) -> list[str]:
    """Those that begin so. A shell waits for this: nothing of it may last, print or fail."""
    found: list[str] = []

    def ask() -> None:
        with (
            contextlib.suppress(ProblemError, httpx.HTTPError, OSError, ValueError),
            PortalClient.signed_in() as client,
        ):
            found.extend(names(client))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(WITHIN)
    return [name for name in list(found) if name.startswith(incomplete)][:MOST]


def dataset_ids(incomplete: str) -> list[str]:
    """Those that the person may use now."""
    return _offered(incomplete, lambda c: (d.id for d in c.datasets() if d.access.state == "granted"))


def workflow_names(incomplete: str) -> list[str]:
    return _offered(incomplete, lambda c: (w.name for w in c.workflows()))


def run_ids(incomplete: str) -> list[str]:
    """The newest."""
    return _offered(incomplete, lambda c: (r.id for r in c.runs(most=MOST)))


def grant_ids(incomplete: str) -> list[str]:
    """Those that serve."""
    return _offered(incomplete, lambda c: (g.id for g in c.grants() if g.state == "active"))
