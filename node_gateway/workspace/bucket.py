"""One S3 bucket through boto3, whose blocking calls run on a small pool of threads."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from gdi.kit.problem import ProblemError

R = TypeVar("R")
THREADS = 16
PAGE = 1000


@dataclass(frozen=True)
class Stored:
    """An object: its key, size in bytes, last change in epoch seconds."""

    key: str
    size: int
    mtime: float


class Bucket:
    """Keys given explicitly: nothing is looked up in the environment. ProblemError 503 where the S3 is away."""

    def __init__(
        self, name: str, *, endpoint: str, region: str, credentials: tuple[str, str], pool: ThreadPoolExecutor
    ) -> None:
        self.name = name
        self._pool = pool
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=THREADS,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies={},
        )
        session = boto3.session.Session(
            aws_access_key_id=credentials[0], aws_secret_access_key=credentials[1], region_name=region
        )
        self._s3 = session.client("s3", endpoint_url=endpoint, config=config)

    async def _run(self, call: Callable[[], R]) -> R:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        except (BotoCoreError, ClientError) as error:
            code = (
                error.response.get("Error", {}).get("Code", "")
                if isinstance(error, ClientError)
                else type(error).__name__
            )
            raise ProblemError(
                503,
                "storage-away",
                f"The node's storage does not answer rightly ({str(code)[:60]}).",
                action="Try again in a few seconds.",
                retry_after=3,
            ) from None

    async def head(self, key: str) -> Stored | None:
        return await self._run(lambda: self._head(key))

    def _head(self, key: str) -> Stored | None:
        try:
            found = self._s3.head_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise
        return Stored(key, int(found["ContentLength"]), found["LastModified"].timestamp())

    async def all_there(self, keys: list[str]) -> bool:
        found = await asyncio.gather(*(self.head(key) for key in keys))
        return all(f is not None for f in found)

    async def page(self, prefix: str, token: str = "", size: int = PAGE) -> tuple[list[Stored], str]:
        """One page of what begins with `prefix`, and the next page's token or empty. ValueError for a token that is not
        one of ours.
        """
        query: dict[str, Any] = {"Bucket": self.name, "Prefix": prefix, "MaxKeys": size}
        if token:
            # The token is the last key: it stays good over a restart of gateway and storage. A foreign one cannot leave
            # the prefix.
            query["StartAfter"] = prefix_bound(token, prefix)
        found = await self._run(lambda: self._s3.list_objects_v2(**query))
        files = [
            Stored(o["Key"], int(o["Size"]), o["LastModified"].timestamp())
            for o in found.get("Contents", [])
            if o["Key"].startswith(prefix)
        ]
        following = (
            base64.urlsafe_b64encode(files[-1].key.encode()).decode() if files and found.get("IsTruncated") else ""
        )
        return files, following

    async def delete(self, key: str) -> None:
        await self._run(lambda: self._s3.delete_object(Bucket=self.name, Key=key))

    async def download(self, key: str, into: IO[bytes], limit: int) -> int:
        """Writes at most `limit` bytes into `into`; returns how many there were (more than `limit`: it was cut).
        ProblemError 404.
        """

        def call() -> int:
            try:
                body = self._s3.get_object(Bucket=self.name, Key=key)["Body"]
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    raise ProblemError(
                        404, "not-found", "The file does not exist in the workspace.", action="Check the path."
                    ) from None
                raise
            total = 0
            with body:
                while chunk := body.read(256 * 1024):
                    total += len(chunk)
                    if total > limit:
                        break
                    into.write(chunk)
            return total

        return await self._run(call)

    async def upload(self, key: str, source: IO[bytes], content_type: str) -> None:
        def call() -> None:
            source.seek(0)
            self._s3.put_object(Bucket=self.name, Key=key, Body=source, ContentType=content_type)

        await self._run(call)

    async def alive(self) -> bool:
        try:
            await asyncio.wait_for(self._run(lambda: self._s3.list_objects_v2(Bucket=self.name, MaxKeys=1)), 5)
        except (ProblemError, TimeoutError):
            return False
        return True


def prefix_bound(token: str, prefix: str) -> str:
    try:
        key = base64.urlsafe_b64decode(token.encode()).decode()
    except ValueError:
        raise ValueError("page_token is not one of this listing") from None
    if not key.startswith(prefix):
        raise ValueError("page_token is not one of this listing")
    return key
