"""The archive's listing of a dataset as one run's user sees it, kept a few seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from gdi.contracts.urls import SdaUrl
from gdi.kit.recent import RecentValues
from node_gateway.archive import SdaClient
from node_gateway.downloads import SdaRefusal
from node_gateway.listed_files import Files, Listed, SamePathError

FRESH_FOR = 15.0  # seconds; one run asks for many files of a dataset at once
MAX_LISTINGS = 50


@dataclass(frozen=True)
class _Kept:
    files: Files
    times: dict[str, float | None] = field(default_factory=dict)


class Listings:
    """A dataset's files as a run's user sees them, kept a few seconds; times asked of the archive are kept as long."""

    def __init__(self, archive: SdaClient) -> None:
        self._archive = archive
        self._kept = RecentValues[tuple[str, str], _Kept](FRESH_FOR, MAX_LISTINGS)

    async def find(self, run: str, file: SdaUrl, token: str, *, times: bool = True) -> Listed | None:
        """The file, or None; its `mtime` is by the listing or else (with `times`) by a HEAD. SdaRefusal where the
        archive does not open the dataset, or has two files of that path.
        """
        kept = await self._of(run, file, token)
        found = _of_path(kept.files, file)
        if found is None or found.mtime is not None or not times:
            return found
        if file.path not in kept.times:
            kept.times[file.path] = await self._archive.last_modified(file, found, token)
        return replace(found, mtime=kept.times[file.path])

    async def with_others(self, run: str, file: SdaUrl, token: str) -> tuple[Listed, Files]:
        """The file and all files of its dataset, for a read: a file that is not in the listing is looked for once more.
        SdaRefusal as above, and `NotFound`.
        """
        for fresh in (False, True):
            kept = await self._of(run, file, token, fresh=fresh)
            if found := _of_path(kept.files, file):
                return found, kept.files
        raise SdaRefusal("NotFound", f"{file} does not exist in the archive.")

    async def named(self, run: str, dataset: str, name: str, token: str) -> list[Listed]:
        """The files that an htsget server may mean by a name: those of that path, with any suffix. SdaRefusal."""
        kept = await self._of(run, SdaUrl.of(dataset, ""), token)
        return [file for file in kept.files.all() if file.path == name or file.path.startswith(f"{name}.")]

    async def within(self, run: str, dataset: str, token: str) -> Files:
        """All files of a dataset. SdaRefusal."""
        return (await self._of(run, SdaUrl.of(dataset, ""), token)).files

    async def paths(self, run: str, dataset: str, token: str) -> list[str]:
        """The paths of all files of a dataset. SdaRefusal."""
        return [file.path for file in (await self.within(run, dataset, token)).all()]

    async def _of(self, run: str, file: SdaUrl, token: str, *, fresh: bool = False) -> _Kept:
        kept = None if fresh else self._kept.get((run, file.dataset))
        if kept is None:
            since = time.monotonic()
            kept = _Kept(Files(file.dataset, await self._archive.files(file.dataset, token)))
            self._kept.keep((run, file.dataset), kept, since)
        return kept


def _of_path(files: Files, file: SdaUrl) -> Listed | None:
    try:
        return files.of_path(file.path)
    except SamePathError as error:
        raise SdaRefusal(
            "ArchiveError", f"{error}. The archive's operator has to give each a path of its own."
        ) from None
