"""What a run's Results tab shows, as the API answers it, and its files, streamed through under URLs of this server."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

from sqlalchemy import RowMapping
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gdi.contracts.cohorts import CohortChoice
from gdi.contracts.portal_api import ReleaseEntry, ResultFile, RunResults
from gdi.contracts.results import MEDIA_TYPES
from gdi.kit.bounded_read import aparts
from gdi.kit.problem import ProblemError
from gdi.portal.airflow import AirflowClient

PASSED_ON = ("content-type", "content-length", "content-disposition")
MAX_ROWS = 5000


class RunFiles:
    def __init__(self, airflow: AirflowClient, at_once: int) -> None:
        """`at_once`: how many downloads one user may have going."""
        self._airflow, self._at_once = airflow, at_once
        self._going: Counter[str] = Counter()

    async def results(self, row: RowMapping, base: str = "/v1/runs") -> RunResults:
        """`base`: where files are below, as a path or a URL."""
        if not row["in_airflow"]:
            return RunResults(run=row["id"], state=row["standing"], sentence=row["sentence"])
        found = await self._airflow.results(row["dag_id"], row["dag_run_id"])
        here = f"{base}/{row['id']}"
        releases = [_release(r, here) for r in found.get("releases") or [] if isinstance(r, dict)]
        named = [f for f in found.get("files") or [] if isinstance(f, dict)]
        files = [_file(str(f["name"]), str(f.get("title", "")), f.get("bytes"), here) for f in named]
        answer = found.get("answer")
        return RunResults(
            run=row["id"],
            state=row["standing"],
            sentence=row["sentence"],
            files=[*files, *(r.file for r in releases if r.file is not None)],
            releases=releases,
            answer=answer if isinstance(answer, dict) else None,
            crate=f"{here}/crate" if found.get("crate") else None,
            notes=[str(n)[:1000] for n in found.get("notes") or []],
        )

    async def stream(self, row: RowMapping, kind: str, name: str | None = None) -> StreamingResponse:
        """A file or the crate, piece by piece. ProblemError 404; 429 where its user has too many downloads going: so no
        one of them keeps the others' waiting.
        """
        if not row["in_airflow"]:
            raise ProblemError(404, "no-such-file", "This run has no results (yet).", action="Look at how it stands.")
        owner = str(row["owner"])
        if self._going[owner] >= self._at_once:
            raise ProblemError(
                429,
                "too-many-requests",
                f"You have {self._at_once} downloads going already.",
                action="Wait until one of them is done.",
                retry_after=5,
            )
        self._going[owner] += 1
        opened = self._airflow.download(kind, row["dag_id"], row["dag_run_id"], name)
        try:
            answer = await opened.__aenter__()
        except BaseException:
            self._over(owner)
            raise
        headers = {h: answer.headers[h] for h in PASSED_ON if h in answer.headers}
        if "content-encoding" in answer.headers:
            headers.pop("content-length", None)

        async def end() -> None:
            self._over(owner)
            await opened.__aexit__(None, None, None)

        return RunDownload(aparts(answer), end, headers)

    def _over(self, owner: str) -> None:
        self._going[owner] -= 1
        if self._going[owner] <= 0:
            del self._going[owner]


class RunDownload(StreamingResponse):
    """A streamed answer that is ended however it ends: also where its reader left before the first byte."""

    def __init__(
        self, pieces: AsyncIterator[bytes], end: Callable[[], Awaitable[None]], headers: dict[str, str]
    ) -> None:
        super().__init__(pieces, headers=headers)
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._end()


def _file(name: str, title: str, size: Any, here: str) -> ResultFile:
    suffix = "." + name.rpartition(".")[2]
    return ResultFile(
        name=name,
        title=title or name,
        bytes=size if isinstance(size, int) else None,
        media_type=MEDIA_TYPES.get(suffix, "application/octet-stream"),
        url=f"{here}/files/{quote(name)}",
    )


def _release(found: dict[str, Any], here: str) -> ReleaseEntry:
    name = found.get("file")
    title = str(found.get("title") or found.get("name"))
    return ReleaseEntry(
        node=found["node"],
        name=str(found["name"]),
        title=title,
        kind=str(found.get("kind") or ""),
        unit=str(found.get("unit") or "row"),
        released=int(found.get("sites_released") or 0),
        withheld=found.get("sites_withheld"),
        reasons={str(k): int(v) for k, v in (found.get("withheld") or {}).items()},
        verified=bool(found.get("verified")),
        verdict=str(found.get("verdict") or ""),
        cohort=None if found.get("cohort") is None else CohortChoice.model_validate(found["cohort"]),
        file=None if not name else _file(str(name), f"{title}, {found['node']}", found.get("bytes"), here),
    )
