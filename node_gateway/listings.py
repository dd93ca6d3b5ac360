"""The archive's listing of a dataset as one run's user sees it, kept a few seconds."""

from __future__ import annotations

import time
from collections import OrderedDict

from gdi.contracts.urls import SdaUrl
from node_gateway.archive import Listed, SdaClient

FRESH_FOR = 15.0  # seconds; one run asks for many files of a dataset at once
MAX_LISTINGS = 50


class Listings:
    """A dataset's files as a run's user sees them, kept a few seconds; times asked of the archive are kept as long."""

    def __init__(self, archive: SdaClient) -> None:
        self._archive = archive
        self._kept: OrderedDict[tuple[str, str], tuple[float, dict[str, Listed], dict[str, float | None]]] = (
            OrderedDict()
        )

    async def find(self, run: str, file: SdaUrl, token: str, *, times: bool = True) -> Listed | None:
        """The file, or None; its `mtime` is by the listing or else (with `times`) by a HEAD. SdaRefusal where the
        archive does not open the dataset.
        """
        kept = self._kept.get((run, file.dataset))
        if kept is None or time.monotonic() - kept[0] > FRESH_FOR:
            files = await self._archive.files(file.dataset, token)
            kept = (time.monotonic(), {_plain(f.path, file.dataset): f for f in files}, {})
            self._kept[(run, file.dataset)] = kept
            self._kept.move_to_end((run, file.dataset))
            while len(self._kept) > MAX_LISTINGS:
                self._kept.popitem(last=False)
        found = kept[1].get(_plain(file.path, file.dataset))
        if found is None or found.mtime is not None or not times:
            return found
        if file.path not in kept[2]:
            kept[2][file.path] = await self._archive.last_modified(file, token)
        return Listed(found.path, found.size, kept[2][file.path])


def _plain(path: str, dataset: str) -> str:
    """Archives list a file with or without `.c4gh` and with or without the dataset before it."""
    return path.removeprefix("/").removeprefix(f"{dataset}/").removesuffix(".c4gh")
