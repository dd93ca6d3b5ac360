"""The store as a bucket of an S3. An upload in chunks is one of S3's own multipart uploads, whose state lies in the S3
alone: any replica goes on with it. It becomes the object KEY.part; when its SHA-256 is proven it is copied to KEY
within the S3, with a mark that no proxy's page has: a sign-in page with 200 is no release that is here.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

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
GONE = ("NoSuchKey", "404", "NotFound", "NoSuchUpload")  # a HEAD has its status only
NO_OBJECT = ("NoSuchKey",)  # S3's own words, which a page with 404 has not
MARK = "gdi-stored"  # of an object's metadata: its SHA-256 where it was proven, else a word of that writing
NO_S3 = "something else than an S3 answered for the result store's (a proxy's page, it may be)"
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
            if (whole := self._proven(name)) is not None:
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
            for one in (name, name + PART):
                if (whole := self._size(one)) is not None:
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
            if self._proven(name, sha256) is not None:
                return
            if self._size(name + PART) is None:
                self._join(name)
            if self._size(name + PART) is None:
                if self._proven(name, sha256) is not None:  # another replica was faster
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
                proven = {"Metadata": {MARK: sha256}, "MetadataDirective": "REPLACE"}
                self._s3.copy(source, self._bucket, name, ExtraArgs=proven, Config=WITHIN)
            except ClientError as error:
                if _code(error) in GONE and self._proven(name, sha256) is not None:
                    return  # another replica was faster
                raise
            if self._proven(name, sha256) is None:
                raise StoreAwayError("the result store's S3 says that it copied a release, and has it not")
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
        name, word = self._name(key), uuid.uuid4().hex
        with _errors():
            more = {"Metadata": {MARK: word}}
            self._s3.upload_fileobj(source, self._bucket, name, ExtraArgs=more, Config=ONE_THREAD)
            if (self._head(name) or {}).get("Metadata", {}).get(MARK) != word:
                raise StoreAwayError("the result store's S3 says that it stored a file, and has it not")

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

    def _head(self, name: str) -> Json | None:
        """What S3 says of an object; None where there is none."""
        try:
            return _own(self._s3.head_object(Bucket=self._bucket, Key=name))
        except ClientError as error:
            if _code(error) not in GONE:
                raise
            return None

    def _size(self, name: str) -> int | None:
        found = self._head(name)
        return None if found is None else int(found["ContentLength"])

    def _proven(self, name: str, sha256: str = "") -> int | None:
        """The size of a release that is whole; None where there is none. `sha256`: else that of its key. One that was
        stored before there were marks is read.
        """
        found, sha256 = self._head(name), sha256 or name[-64:]
        if found is None:
            return None
        if (found.get("Metadata") or {}).get(MARK) != sha256 and self._read(name, None, None) != sha256:
            raise StoreAwayError("the result store's S3 has other bytes than those that were proven")
        return int(found["ContentLength"])

    def _upload_id(self, name: str) -> str | None:
        """The oldest that goes on for that key."""
        found = [u for u in self._uploads(name + PART) if u["Key"] == name + PART]
        return min(((u["Initiated"], str(u["UploadId"])) for u in found), default=(None, None))[1]

    def _uploads(self, prefix: str) -> Iterator[Json]:
        for page in self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix):
            yield from _listed(page).get("Uploads") or []

    def _parts(self, name: str, upload: str) -> list[Json]:
        try:
            pages = self._s3.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=name + PART, UploadId=upload)
            return sorted(
                (p for page in pages for p in _listed(page).get("Parts") or []), key=lambda p: int(p["PartNumber"])
            )
        except ClientError as error:
            if _code(error) not in GONE:
                raise
            return []

    def _objects(self, prefix: str) -> Iterator[Json]:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
            yield from _listed(page).get("Contents") or []

    def _read(self, name: str, into: IO[bytes] | None, limit: int | None) -> str:
        try:
            answer = _own(self._s3.get_object(Bucket=self._bucket, Key=name))
        except ClientError as error:
            if _code(error) not in NO_OBJECT:
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


def _own(answer: Json) -> Json:
    """An object's answer: S3 gives each its ETag."""
    if not answer.get("ETag"):
        raise StoreAwayError(NO_S3)
    return answer


def _listed(page: Json) -> Json:
    """A listing's page. A page of something else would be an empty one."""
    if not any(key in page for key in ("IsTruncated", "Name", "Bucket")):
        raise StoreAwayError(NO_S3)
    return page


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def _errors() -> Iterator[None]:
    """S3's errors as ours: codes and types only, no key, no name."""
    try:
        yield
    except ClientError as error:
        raise StoreAwayError(f"the result store's S3 answers {_code(error)[:60]}") from None
    except (BotoCoreError, Boto3Error, ResponseParserError, BrokenBodyError, KeyError) as error:
        raise StoreAwayError(f"the result store's S3 does not answer rightly ({type(error).__name__})") from None
