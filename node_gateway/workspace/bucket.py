"""One S3 bucket through boto3, whose blocking calls run on a small pool of threads."""

from __future__ import annotations

import asyncio
import base64
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from gdi.kit.problem import ProblemError
from gdi.kit.s3 import PACE, BrokenBodyError, Pace, pieces, s3_client

R = TypeVar("R")
THREADS = 16
PAGE = 1000
OPERATOR = (
    "301",  # the three: an answer to HEAD has no body
    "400",
    "403",
    "AccessDenied",
    "AuthorizationHeaderMalformed",
    "InvalidAccessKeyId",
    "NoSuchBucket",
    "PermanentRedirect",
    "SignatureDoesNotMatch",
)  # what does not pass by itself


@dataclass(frozen=True)
class WorkspaceTimeouts:
    """Seconds: to connect, for the next byte, for a whole call with its tries (short calls), and for a body."""

    connect: float = 5
    read: float = 30
    call: float = 120
    body: Pace = PACE


PATIENCE = WorkspaceTimeouts()


@dataclass(frozen=True)
class StoredObject:
    """An object: its key, size in bytes, last change in epoch seconds."""

    key: str
    size: int
    mtime: float


class Bucket:
    """Keys given explicitly: nothing is looked up in the environment. ProblemError 503 where the S3 is away, and where
    the bucket is not there: a missing bucket is never taken for a missing object.
    """

    def __init__(
        self,
        name: str,
        *,
        endpoint: str,
        region: str,
        credentials: tuple[str, str],
        pool: ThreadPoolExecutor,
        patience: WorkspaceTimeouts = WorkspaceTimeouts(),  # frozen
    ) -> None:
        self.name = name
        self._pool = pool
        self._patience = patience
        self._s3 = s3_client(
            endpoint, region, credentials, connect=patience.connect, read=patience.read, connections=THREADS
        )

    async def _run(self, call: Callable[[], R], seconds: float | None) -> R:
        """The call's answer after at most `seconds`. None: the call itself looks at the time."""
        try:
            return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(self._pool, call), seconds)
        except ClientError as error:
            raise _away(str(error.response.get("Error", {}).get("Code", ""))) from None
        except BrokenBodyError as error:
            raise _away(str(error)) from None
        except BotoCoreError as error:
            raise _away(type(error).__name__) from None
        except TimeoutError:
            raise _away(f"nothing whole in {seconds or 0:g} seconds") from None

    async def head(self, key: str) -> StoredObject | None:
        return await self._run(lambda: self._head(key), self._patience.call)

    def _head(self, key: str) -> StoredObject | None:
        try:
            found = self._s3.head_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            # An answer to HEAD has no body: this 404 may as well mean the bucket.
            self._bucket_is_there()
            return None
        return StoredObject(key, int(found["ContentLength"]), found["LastModified"].timestamp())

    def _bucket_is_there(self) -> None:
        try:
            self._s3.head_bucket(Bucket=self.name)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise _away("NoSuchBucket") from None
            raise

    async def all_there(self, keys: list[str]) -> bool:
        found = await asyncio.gather(*(self.head(key) for key in keys))
        return all(f is not None for f in found)

    async def page(self, prefix: str, token: str = "", size: int = PAGE) -> tuple[list[StoredObject], str]:
        """One page of what begins with `prefix`, and the next page's token or empty. ValueError for a token that is not
        one of ours.
        """
        query: dict[str, Any] = {"Bucket": self.name, "Prefix": prefix, "MaxKeys": size}
        if token:
            # The token is the last key: it stays good over a restart of gateway and storage. A foreign one cannot leave
            # the prefix.
            query["StartAfter"] = key_of(token, prefix)
        found = await self._run(lambda: self._s3.list_objects_v2(**query), self._patience.call)
        files = [
            StoredObject(o["Key"], int(o["Size"]), o["LastModified"].timestamp())
            for o in found.get("Contents", [])
            if o["Key"].startswith(prefix)
        ]
        return files, self.token(files[-1].key) if files and found.get("IsTruncated") else ""

    @staticmethod
    def token(key: str) -> str:
        """The token of the page that begins behind this key."""
        return base64.urlsafe_b64encode(key.encode()).decode()

    async def delete(self, key: str) -> None:
        await self._run(lambda: self._s3.delete_object(Bucket=self.name, Key=key), self._patience.call)

    async def delete_below(self, prefix: str) -> int:
        """Everything that begins with `prefix`; how many objects that was."""
        count = 0
        while files := (await self.page(prefix))[0]:
            for file in files:
                await self.delete(file.key)
            count += len(files)
        return count

    async def download(self, key: str, into: IO[bytes], limit: int) -> int:
        """Writes at most `limit` bytes into `into`; returns how many there were (more than `limit`: it was cut).
        ProblemError 404.
        """

        def start() -> Any:  # boto3's answer
            try:
                return self._s3.get_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") == "NoSuchKey":
                    raise ProblemError(
                        404, "not-found", "The file does not exist in the workspace.", action="Check the path."
                    ) from None
                raise

        def read() -> int:
            total = 0
            for chunk in pieces(answer, self._patience.body, limit):
                total += len(chunk)
                if total > limit:
                    break
                into.write(chunk)
            return total

        answer = await self._run(start, self._patience.call)
        return await self._run(read, None)

    async def content(self, key: str, limit: int) -> bytes | None:
        """A small object whole; None where it has more than `limit` bytes. ProblemError 404."""
        into = io.BytesIO()
        return into.getvalue() if await self.download(key, into, limit) <= limit else None

    async def upload(self, key: str, source: IO[bytes], content_type: str) -> None:
        def call() -> None:
            source.seek(0)
            self._s3.put_object(Bucket=self.name, Key=key, Body=source, ContentType=content_type)

        size = source.seek(0, os.SEEK_END)
        await self._run(call, self._patience.call + self._patience.body.seconds(size))

    async def alive(self) -> bool:
        try:
            await self._run(lambda: self._s3.list_objects_v2(Bucket=self.name, MaxKeys=1), 5)
        except ProblemError:
            return False
        return True


def _away(reason: str) -> ProblemError:
    """`reason`: a code of S3, an error's type or byte counts; no key, no name of the node's storage."""
    lasting = reason in OPERATOR
    return ProblemError(
        503,
        "storage-away",
        f"The node's storage does not answer rightly ({reason[:120]}).",
        action="Tell the node's operator: the storage's bucket, region or keys are wrong."
        if lasting
        else "Try again in a few seconds.",
        retry_after=3,
    )


def key_of(token: str, prefix: str) -> str:
    """The key that a page's token names. ValueError where it is none, or not of this listing."""
    try:
        key = base64.urlsafe_b64decode(token.encode()).decode()
    except ValueError:
        raise ValueError("page_token is not one of this listing") from None
    if not key.startswith(prefix):
        raise ValueError("page_token is not one of this listing")
    return key
