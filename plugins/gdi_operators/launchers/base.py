"""A launcher makes, watches and stops Snakemake pods. Names are chosen by the operator, so that a pod is found again
whoever lost sight of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from gdi.contracts.process_host import StopMode
from gdi.pods.model import PodSpec, PodStatus


class Launcher(ABC):
    """Create and start are two steps, so that the pod's uid is known to the broker before the pod can ask for its first
    token. All calls are idempotent.
    """

    @abstractmethod
    def create(self, spec: PodSpec) -> PodStatus:
        """Makes the pod, not running yet; the one that there is where the same was asked before."""

    @abstractmethod
    def start(self, name: str) -> PodStatus:
        """Lets a created pod run; one that runs is left alone."""

    @abstractmethod
    def get(self, name: str) -> PodStatus | None:
        """The pod, or None where there is none of that name."""

    @abstractmethod
    def of_attempt(self, run: str, node: str, attempt: int) -> dict[str, PodStatus]:
        """The pods that there are of a node's part of an attempt, by name; those that were deleted are not among
        them.
        """

    @abstractmethod
    def stop(self, name: str, *, mode: StopMode, grace: float, uid: str | None = None) -> None:
        """Asks for its end and insists after `grace` seconds; returns at once. No error where it ended or never was.
        With `uid` that pod only: another of the name is left alone.
        """

    @abstractmethod
    async def aget(self, name: str) -> PodStatus | None:
        """`get` for a trigger's event loop."""

    @abstractmethod
    async def astop(self, name: str, *, mode: StopMode, grace: float) -> None:
        """`stop` for a trigger's event loop."""

    async def alog(self, name: str, since: str, *, ended: bool = False) -> tuple[list[str], str]:
        """(lines of its log after `since`, the next `since`); nothing where the platform keeps logs to itself. `since`
        is "" at first.

        At most some lines at each look; with `ended` the last ones of all.
        """
        return [], since

    @abstractmethod
    async def aclose(self) -> None:
        """Ends what the async calls keep open."""
