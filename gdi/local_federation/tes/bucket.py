"""`s3://bucket/key` with the node's own keys: files and folders in and out, nothing of a task followed by link out of
its folder.
"""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3
import botocore.config
import botocore.exceptions

from gdi.kit.s3 import PACE, BrokenBodyError, Pace, bound_redirects, pieces
from gdi.kit.secret_files import read_secret
from gdi.kit.settings import SettingsError
from gdi.local_federation.tes.config import S3
from gdi.local_federation.tes.models import Input, Output
from gdi.local_federation.tes.transfer import Budget, TransferError, TryAgainError, printable, with_retry
from gdi.runner.sandbox import UnsafePathError, open_in_root, resolve_in_root

T = TypeVar("T")
PASSING = ("500", "502", "503", "504", "429", "InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout")


@dataclass(frozen=True)
class BucketTimeouts:
    """Seconds: to connect, for the next byte, for an object store that is away, and for a body."""

    connect: float = 10
    read: float = 60
    away: float = 120
    body: Pace = PACE


PATIENCE = BucketTimeouts()


class Buckets:
    """The node's object store. Thread-safe, as boto3's clients are."""

    def __init__(self, settings: S3, patience: BucketTimeouts = BucketTimeouts()) -> None:  # frozen
        self._patience = patience
        try:
            keys = json.loads(read_secret(settings.credentials_file))
            access, private = keys["access_key"], keys["secret_key"]
        except (ValueError, KeyError, TypeError):
            raise SettingsError(
                f'{settings.credentials_file}: must be JSON {{"access_key": …, "secret_key": …}}'
            ) from None
        self._client: Any = boto3.client(  # boto3 makes its clients' types at run time
            "s3",
            endpoint_url=settings.endpoint,
            aws_access_key_id=access,
            aws_secret_access_key=private,
            region_name=settings.region,
            config=botocore.config.Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                retries={"max_attempts": 2, "mode": "standard"},
                connect_timeout=patience.connect,
                read_timeout=patience.read,
                max_pool_connections=32,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        bound_redirects(self._client)

    def download(self, item: Input, target: Path, budget: Budget) -> None:
        """An object to the file `target`, or all below `key/` into the folder `target`."""
        bucket, key = split(item.url or "")
        if item.type == "FILE":
            self._get(bucket, key, target, budget)
            return
        prefix = key.rstrip("/") + "/" if key else ""
        target.mkdir(parents=True, exist_ok=True)
        for found in self._list(bucket, prefix, budget):
            relative = found.removeprefix(prefix)
            if relative.endswith("/") or not relative:
                continue
            if any(p in ("", ".", "..") for p in relative.split("/")):
                raise TransferError(f"s3://{bucket}/{printable(found)}: this key cannot be a path")
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            self._get(bucket, found, target / relative, budget)

    def upload(self, output: Output, root: Path, budget: Budget) -> list[dict[str, str]]:
        """Stores what the task left at the output's path; `[{"url", "path", "size_bytes"}]`. A missing file is a
        TransferError.
        """
        bucket, key = split(output.url)
        if output.wild and output.path_prefix is not None:
            base = output.path_prefix.rstrip("/")
            files = [f for f in walk(root, base, budget) if fnmatch.fnmatchcase(f, output.path)]
            return [self._put(bucket, _below(key, f.removeprefix(base + "/")), root, f, budget) for f in files]
        if output.type == "DIRECTORY":
            files = list(walk(root, output.path, budget))
            return [self._put(bucket, _below(key, f.removeprefix(output.path + "/")), root, f, budget) for f in files]
        return [self._put(bucket, key, root, output.path, budget)]

    def _get(self, bucket: str, key: str, target: Path, budget: Budget) -> None:
        budget.take_file()

        def attempt() -> None:
            answer = self._client.get_object(Bucket=bucket, Key=key)
            with target.open("wb") as file:
                for chunk in pieces(answer, self._patience.body):
                    budget.take(len(chunk))
                    file.write(chunk)

        self._patiently(f"s3://{bucket}/{key}", attempt, budget)

    def _put(self, bucket: str, key: str, root: Path, path: str, budget: Budget) -> dict[str, str]:
        budget.take_file()
        url = f"s3://{bucket}/{key}"
        try:
            descriptor = open_in_root(root, path)
        except FileNotFoundError:
            raise TransferError(
                f"{printable(path)}: the task did not write this output (for {printable(url)})"
            ) from None
        except OSError as error:
            reason = error if isinstance(error, UnsafePathError) else error.strerror
            raise TransferError(
                f"{printable(path)}: this output is not a plain file that may be read ({reason})"
            ) from None
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            budget.take(size)

            def attempt() -> None:
                # boto3 closes what it is given, so each attempt gets a descriptor of its own
                with os.fdopen(os.dup(file.fileno()), "rb") as copied:
                    copied.seek(0)
                    self._client.upload_fileobj(copied, bucket, key)

            self._patiently(url, attempt, budget)
        return {"url": url, "path": path, "size_bytes": str(size)}

    def _list(self, bucket: str, prefix: str, budget: Budget) -> Iterator[str]:
        token: dict[str, str] = {}
        while True:
            ask = partial(self._client.list_objects_v2, Bucket=bucket, Prefix=prefix, **token)
            page = self._patiently(f"s3://{bucket}/{prefix}", ask, budget)
            for entry in page.get("Contents", []):
                yield str(entry["Key"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _patiently(self, url: str, call: Callable[[], T], budget: Budget) -> T:
        def attempt() -> T:
            try:
                return call()
            except botocore.exceptions.ClientError as error:
                detail = error.response.get("Error", {})
                code = str(detail.get("Code", "?"))
                problem = (
                    f"{printable(url)}: the object store refused: {printable(code)}"
                    f" {printable(str(detail.get('Message', '')))}"
                )
                raise (TryAgainError(problem) if code in PASSING else TransferError(problem)) from None
            except BrokenBodyError as error:
                raise TryAgainError(f"{printable(url)}: {error}") from None
            except (
                boto3.exceptions.Boto3Error,
                botocore.exceptions.HTTPClientError,
                botocore.exceptions.BotoCoreError,
            ) as error:
                # S3UploadFailedError hides the cause; its text names the code, never a key.
                problem = f"{printable(url)}: the object store failed: {type(error).__name__}: {printable(str(error))}"
                final = any(
                    code in str(error)
                    for code in ("AccessDenied", "NoSuchBucket", "SignatureDoesNotMatch", "InvalidAccessKeyId")
                )
                raise (TransferError(problem) if final else TryAgainError(problem)) from None

        return with_retry(attempt, budget, self._patience.away)


def split(url: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`. TransferError otherwise."""
    parts = urlsplit(url)
    key = url.removeprefix("s3://").partition("/")[2]
    if parts.scheme != "s3" or not parts.netloc or any(p == ".." for p in key.split("/")):
        raise TransferError(f"{printable(url)}: an s3 URL is s3://bucket/key, with no '..'")
    return parts.netloc, key


def walk(root: Path, path: str, budget: Budget) -> Iterator[str]:
    """The plain files below `path`, as the task names them, sorted; links to folders are not entered."""
    top = resolve_in_root(root, path)
    if not top.is_dir():
        raise TransferError(f"{printable(path)}: the task did not write this directory")
    for folder, names, files in os.walk(top):
        names.sort()
        budget.take(0)
        for name in sorted(files):
            yield f"{path.rstrip('/')}/{(Path(folder, name).relative_to(top)).as_posix()}"


def _below(key: str, relative: str) -> str:
    return f"{key.rstrip('/')}/{relative}" if key else relative
