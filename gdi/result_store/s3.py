"""The store as a bucket of an S3. An upload in chunks is one of S3's own multipart uploads, whose state lies in the S3
alone: any replica goes on with it. It becomes the object KEY.part; when its SHA-256 is proven it is copied to KEY
within the S3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from gdi.kit.s3 import PACE, BrokenBodyError, pieces, s3_client
from gdi.result_store.model import (
    CHUNK,
    PART,
    RELEASES,
    NothingStoredError,
    StoreAwayError,
    TooManyBytesError,
    Upload,
    WrongChunkError,
    WrongHashError,
    WrongOffsetError,
    checked,
)

LEAST = 5 * 1024 * 1024  # bytes: S3 takes no smaller part but the last
GONE = ("NoSuchKey", "404", "NotFound", "NoSuchUpload")
ONE_THREAD = TransferConfig(multipart_threshold=CHUNK, multipart_chunksize=CHUNK, use_threads=False)
WITHIN = TransferConfig(multipart_threshold=2**30, multipart_chunksize=2**29, use_threads=False)  # no byte comes here
Json = dict[str, Any]


class S3Store:
    """Keys of access are given explicitly; nothing is looked up in the environment."""

    def __init__(
        self, bucket: str, prefix: str, *, endpoint: str | None, region: str, credentials: tuple[str, str]
    ) -> None:
        self._bucket, self._prefix = bucket, prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._s3 = s3_client(endpoint, region, credentials, connect=5, read=60, transfers=True)

    def upload(self, key: str) -> Upload:
        name = self._name(key)
        with _errors():
            if (whole := self._size(name)) is not None:
                return Upload(whole, complete=True)
            if (part := self._size(name + PART)) is not None:
                return Upload(part, complete=False)
            upload = self._upload_id(name)
            return Upload(sum(int(p["Size"]) for p in self._parts(name, upload)) if upload else 0, complete=False)

    def append(self, key: str, chunk: IO[bytes], *, offset: int, size: int, last: bool) -> None:
        name = self._name(key)
        if not last and size < LEAST:
            raise WrongChunkError(f"A chunk that is not the last has at least {LEAST} bytes.")
        with _errors():
            if (whole := self._size(name) or self._size(name + PART)) is not None:
                raise WrongOffsetError(whole)
            upload = self._upload_id(name)
            parts = self._parts(name, upload) if upload else []
            here = sum(int(p["Size"]) for p in parts)
            if here != offset:
                raise WrongOffsetError(here)
            if upload is None:
                self._s3.create_multipart_upload(Bucket=self._bucket, Key=name + PART)
                upload = self._upload_id(name)  # two replicas that both began one go on with the same
            self._s3.upload_part(
                Bucket=self._bucket,
                Key=name + PART,
                UploadId=upload,
                PartNumber=len(parts) + 1,
                Body=chunk,
                ContentLength=size,
            )

    def complete(self, key: str, sha256: str) -> None:
        name = self._name(key)
        with _errors():
            if self._size(name) is not None:
                return
            if self._size(name + PART) is None:
                self._join(name)
            if self._size(name + PART) is None:
                if self._size(name) is not None:  # another replica was faster
                    return
                raise NothingStoredError
            try:
                found = self._read(name + PART, None, None)
            except NothingStoredError:
                return self.complete(key, sha256)  # another replica moved it meanwhile
            if found != sha256:
                self._s3.delete_object(Bucket=self._bucket, Key=name + PART)
                raise WrongHashError
            source = {"Bucket": self._bucket, "Key": name + PART}
            try:
                self._s3.copy(source, self._bucket, name, Config=WITHIN)
            except ClientError as error:
                if _code(error) in GONE and self._size(name) is not None:
                    return  # another replica was faster
                raise
            self._s3.delete_object(Bucket=self._bucket, Key=name + PART)

    def _join(self, name: str) -> None:
        upload = self._upload_id(name)
        parts = self._parts(name, upload) if upload else []
        if not parts:
            return
        joined = [{"PartNumber": p["PartNumber"], "ETag": p["ETag"]} for p in parts]
        try:
            self._s3.complete_multipart_upload(
                Bucket=self._bucket, Key=name + PART, UploadId=upload, MultipartUpload={"Parts": joined}
            )
        except ClientError as error:
            if _code(error) not in GONE:  # else another replica was faster
                raise

    def put(self, key: str, source: IO[bytes]) -> None:
        with _errors():
            self._s3.upload_fileobj(source, self._bucket, self._name(key), Config=ONE_THREAD)

    def fetch(self, key: str, into: IO[bytes], limit: int) -> str:
        with _errors():
            return self._read(self._name(key), into, limit)

    def usage(self, prefix: str) -> tuple[int, int]:
        files = size = 0
        with _errors():
            for one in self._objects(self._prefix + prefix):
                files, size = files + 1, size + int(one["Size"])
            for upload in self._uploads(self._prefix + prefix):
                parts = self._parts(str(upload["Key"]).removesuffix(PART), str(upload["UploadId"]))
                files, size = files + 1, size + sum(int(p["Size"]) for p in parts)
        return files, size

    def sweep(self, before: float) -> int:
        prefix, torn = f"{RELEASES}/", 0  # what comes in chunks: others may use the bucket, and may not be touched
        with _errors():
            for upload in self._uploads(self._prefix + prefix):
                parts = self._parts(str(upload["Key"]).removesuffix(PART), str(upload["UploadId"]))
                if max([upload["Initiated"], *(p["LastModified"] for p in parts)]).timestamp() < before:
                    self._s3.abort_multipart_upload(Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"])
                    torn += 1
            for one in self._objects(self._prefix + prefix):
                if str(one["Key"]).endswith(PART) and one["LastModified"].timestamp() < before:
                    self._s3.delete_object(Bucket=self._bucket, Key=one["Key"])
                    torn += 1
        return torn

    # --- S3 --------------------------------------------------------------------------------------

    def _name(self, key: str) -> str:
        return self._prefix + checked(key)

    def _size(self, name: str) -> int | None:
        try:
            return int(self._s3.head_object(Bucket=self._bucket, Key=name)["ContentLength"])
        except ClientError as error:
            if _code(error) not in GONE:
                raise
            return None

    def _upload_id(self, name: str) -> str | None:
        """The oldest that goes on for that key."""
        found = [u for u in self._uploads(name + PART) if u["Key"] == name + PART]
        return min(((u["Initiated"], str(u["UploadId"])) for u in found), default=(None, None))[1]

    def _uploads(self, prefix: str) -> Iterator[Json]:
        for page in self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix):
            yield from page.get("Uploads") or []

    def _parts(self, name: str, upload: str) -> list[Json]:
        try:
            pages = self._s3.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=name + PART, UploadId=upload)
            return sorted((p for page in pages for p in page.get("Parts") or []), key=lambda p: int(p["PartNumber"]))
        except ClientError as error:
            if _code(error) not in GONE:
                raise
            return []

    def _objects(self, prefix: str) -> Iterator[Json]:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
            yield from page.get("Contents") or []

    def _read(self, name: str, into: IO[bytes] | None, limit: int | None) -> str:
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=name)
        except ClientError as error:
            if _code(error) not in GONE:
                raise
            raise NothingStoredError from None
        total, size = hashlib.sha256(), 0
        for piece in pieces(answer, PACE):
            size += len(piece)
            if limit is not None and size > limit:
                raise TooManyBytesError
            total.update(piece)
            if into is not None:
                into.write(piece)
        return total.hexdigest()


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def _errors() -> Iterator[None]:
    """S3's errors as ours: codes and types only, no key, no name."""
    try:
        yield
    except ClientError as error:
        raise StoreAwayError(f"the result store's S3 answers {_code(error)[:60]}") from None
    except (BotoCoreError, Boto3Error, BrokenBodyError) as error:
        raise StoreAwayError(f"the result store's S3 does not answer rightly ({type(error).__name__})") from None
