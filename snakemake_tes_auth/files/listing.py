"""What a dataset holds, by the archive's own listing, where no gateway answers: one request for each dataset, never any
data. SDA download API v1.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from snakemake_interface_common.exceptions import WorkflowError

from gdi.contracts.ids import dataset_of_name
from gdi.contracts.urls import StorageUrl
from gdi.kit import bounded_read
from gdi.kit.bearer import BearerAuth
from gdi.kit.problem import ProblemError
from gdi.kit.retry import RetryPolicy
from gdi.kit.tls import authorities
from snakemake_tes_auth.credentials.oauth import check_secret_url
from snakemake_tes_auth.credentials.tokens import (
    FileTokens,
    FixedToken,
    NoToken,
    TokenSource,
    refuse_argument,
)
from snakemake_tes_auth.files.metadata import FileInfo
from snakemake_tes_auth.loop import LoopThread
from snakemake_tes_auth.retry import Away, Refusal, error_of, persist

log = logging.getLogger("snakemake.logger")
MAX_LISTING = 128 * 1024 * 1024  # bytes
TIMEOUT = httpx.Timeout(120, connect=5)
TOKEN_VARIABLE = "SNAKEMAKE_STORAGE_SDA_TOKEN"  # noqa: S105


class ArchiveListing:
    """`ask` is called from any thread. A file's time is not in the listing: an input counts as older than whatever is
    made from it.
    """

    def __init__(self, url: str, tokens: TokenSource, *, patience: RetryPolicy | None = None) -> None:
        self._url, self._tokens, self._patience = url.rstrip("/"), tokens, patience or RetryPolicy(total=120)
        self._loop = LoopThread()
        self._http = bounded_read.BoundedAsyncClient(
            max_answer=MAX_LISTING,
            base_url=self._url,
            auth=BearerAuth(tokens),
            timeout=TIMEOUT,
            trust_env=False,
            verify=authorities(),
        )
        self._lock = asyncio.Lock()
        self._datasets: dict[str, dict[str, FileInfo]] = {}

    @classmethod
    def of(cls, settings: Any) -> ArchiveListing:
        """By the storage provider's settings. Refusal where a token would travel readable or cannot be one."""
        refuse_argument("--storage-sda-token", TOKEN_VARIABLE)
        if settings.token and settings.token_file:
            raise Refusal("give one of --storage-sda-token-file and the environment variable " + TOKEN_VARIABLE)
        tokens: TokenSource = NoToken()
        if settings.token or settings.token_file:
            check_secret_url(settings.url, plain_http=bool(settings.plain_http))
            tokens = (
                FileTokens(Path(settings.token_file))
                if settings.token_file
                else FixedToken(settings.token, f"the environment variable {TOKEN_VARIABLE}")
            )
        return cls(settings.url, tokens)

    def ask(self, query: StorageUrl) -> FileInfo | None:
        """The file's size, None where the dataset has no such file. WorkflowError naming the dataset where it is not
        open to the user.
        """
        try:
            return self._loop.run(self._find(query))
        except (Refusal, Away, ProblemError) as error:
            raise WorkflowError(f"{query}: {error}") from None

    async def _find(self, query: StorageUrl) -> FileInfo | None:
        async with self._lock:
            dataset = dataset_of_name(query.owner) or query.owner
            if dataset not in self._datasets:
                self._datasets[dataset] = await self._files(dataset)
        return self._datasets[dataset].get(_plain(query.path, dataset))

    async def _files(self, dataset: str) -> dict[str, FileInfo]:
        async def once() -> Any:
            try:
                whole = await self._http.get(f"/metadata/datasets/{quote(dataset, safe='')}/files")
            except bounded_read.TooLargeError:
                raise Refusal(f"the archive's listing of {dataset} is larger than {MAX_LISTING} bytes") from None
            if whole.status_code in (403, 404):
                raise Refusal(
                    f"no access to dataset {dataset}: the archive does not open it to this user; apply for access"
                    " to it",
                    dataset=dataset,
                )
            if not whole.is_success:
                raise error_of(whole)
            return whole.json()

        try:
            listed = await persist(once, what=f"the archive at {self._url}", patience=self._patience, say=log.warning)
        except ValueError:
            listed = None
        if not isinstance(listed, list):
            raise Refusal(
                f"the archive at {self._url} answered the listing of {dataset} with something else; is it an SDA"
                " download service (v1)?"
            )
        return by_path(listed, dataset)


def by_path(listed: list[Any], dataset: str) -> dict[str, FileInfo]:  # listed: whatever JSON held
    """The files of a listing by path, without the dataset before it and `.c4gh` behind it. Refusal where two files have
    one path, naming both.
    """
    found: dict[str, FileInfo] = {}
    ids: dict[str, object] = {}
    for file in listed:
        if isinstance(file, dict) and isinstance(file.get("filePath"), str):
            path = _plain(file["filePath"], dataset)
            if path in found:
                raise Refusal(
                    f"two files of dataset {dataset} have the path {file['filePath']!r}: {ids[path]} and"
                    f" {file.get('fileId')}; the archive's operator has to give each a path of its own",
                    dataset=dataset,
                )
            found[path], ids[path] = FileInfo(_size(file), 0.0), file.get("fileId")
    return found


def _size(entry: dict[str, Any]) -> int:
    value = entry.get("decryptedFileSize", entry.get("fileSize"))
    return value if isinstance(value, int) and value >= 0 else 0


def _plain(path: str, dataset: str) -> str:
    """Archives list a file with or without `.c4gh` and with or without the dataset before it."""
    return path.removeprefix("/").removeprefix(f"{dataset}/").removesuffix(".c4gh")
