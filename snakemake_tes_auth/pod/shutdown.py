"""What a SIGTERM means for a pod: its run was cancelled, or only this pod has to go (an eviction, a drain) and its
tasks go on for the next one.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Literal

import httpx

from gdi.broker_client.client import AsyncBrokerClient
from gdi.contracts.problems import OVER
from gdi.contracts.run_file import RunFile
from gdi.contracts.tokens import TokenRequest
from gdi.kit.problem import ProblemError
from snakemake_tes_auth.folders import Folders

log = logging.getLogger("snakemake_tes_auth.pod")
BOUND = 5.0  # seconds; the kubelet gives 30 or more from SIGTERM to SIGKILL
MARK_BOUND = 2.0  # the mark was written before the pod was ended, its file in the pod may lag
MAX_BYTES = 256 * 1024
_MARK = re.compile(r'^gdi-stop="(cancel|hand-over)"$', re.MULTILINE)

Meaning = Literal["cancel", "hand-over"]


class Shutdown:
    """See docs/decisions/401-eviction.md. In doubt it is a hand-over: nothing is lost by it, and the run's close ends
    what is left.
    """

    def __init__(self, folders: Folders, run: RunFile, broker: AsyncBrokerClient) -> None:
        self._file, self._run, self._broker = folders.annotations, run, broker

    async def meaning(self) -> Meaning:
        """Within 5 s. A launcher without annotations speaks by signals alone: its SIGTERM cancels (it has SIGUSR1 for
        the other).
        """
        if not self._file.parent.is_dir():
            return "cancel"
        asking = asyncio.create_task(self._over())
        found: Meaning | None = None
        try:
            async with asyncio.timeout(BOUND):
                found = await self._marked()
                if found is None:
                    found = "cancel" if await asking else "hand-over"
        except TimeoutError:
            found = "hand-over"
        finally:
            asking.cancel()
        log.warning(
            "asked to end: %s",
            "the run was cancelled" if found == "cancel" else "only this pod; its tasks go on for the next one",
        )
        return found

    async def _marked(self) -> Meaning | None:
        """What the launcher wrote on the pod before it ended it (Kubernetes: an annotation, by the downward API)."""
        loop = asyncio.get_running_loop()
        until = loop.time() + MARK_BOUND
        while True:
            try:
                with self._file.open(errors="replace") as handle:
                    match = _MARK.search(handle.read(MAX_BYTES))
            except OSError:
                match = None
            if match is not None:
                return "cancel" if match.group(1) == "cancel" else "hand-over"
            if loop.time() >= until:
                return None
            await asyncio.sleep(0.1)

    async def _over(self) -> bool:
        """Whether the run, or this attempt of it, has ended at the broker: it gives a run token to the pod of an open
        run only.
        """
        try:
            await self._broker.token(self._run.run, TokenRequest(audience=self._run.audience, min_ttl=0))
        except ProblemError as error:
            return error.slug in OVER
        except (httpx.TransportError, OSError):
            return False
        return False
