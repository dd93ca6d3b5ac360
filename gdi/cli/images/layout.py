"""A folder of images: an OCI image layout (opencontainers/image-spec 1.1), each blob under its SHA-256.

Nothing is in it that was not held against its digest and length, so that it may come by any way.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_MANIFEST = 4 * 1024 * 1024  # bytes: what registries take
MAX_BLOBS = 2000  # of one image, all its platforms
NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ImageError(Exception):
    """What is wrong with an image, its registry or the folder; a sentence that names it."""


class BlobDescriptor(BaseModel):
    """What points to a blob: `size` in bytes. Other fields (platform, annotations) stay as they are."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    media_type: str = Field(alias="mediaType", max_length=255)
    digest: Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]
    size: int = Field(ge=0)

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEXES

    @property
    def is_manifest(self) -> bool:
        return self.media_type in MANIFESTS


def chunks_of(source: IO[bytes]) -> Iterator[bytes]:
    """A file's content, a MiB at a time."""
    while chunk := source.read(1 << 20):
        yield chunk


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def parts_of(descriptor: BlobDescriptor, body: bytes) -> list[BlobDescriptor]:
    """What an index or a manifest points to, in the order in which a registry wants it. ImageError."""
    try:
        found = json.loads(body)
        listed = found["manifests"] if descriptor.is_index else [found["config"], *found["layers"]]
        if len(listed) > MAX_BLOBS:
            raise ImageError(f"{descriptor.digest} has more than {MAX_BLOBS} parts")
        return [BlobDescriptor.model_validate(one) for one in listed]
    except (ValueError, KeyError, TypeError, ValidationError):
        raise ImageError(f"{descriptor.digest} is no manifest that OCI knows") from None


class ImageLayout:
    """`folder` of a layout. `limit`: bytes that all blobs that are added may have together."""

    def __init__(self, folder: Path, *, limit: int) -> None:
        self.folder, self._left = folder, limit
        self._blobs = folder / "blobs" / "sha256"

    def create(self) -> None:
        self._blobs.mkdir(parents=True, exist_ok=True)
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, descriptor: BlobDescriptor) -> Path:
        return self._blobs / descriptor.digest.removeprefix("sha256:")

    def has(self, descriptor: BlobDescriptor) -> bool:
        """Whether the blob lies here as it has to be: length and digest. A wrong one is removed."""
        file = self.blob(descriptor)
        if not file.is_file():
            return False
        if file.stat().st_size == descriptor.size and _sha256(file) == descriptor.digest:
            return True
        file.unlink()
        return False

    def add(self, descriptor: BlobDescriptor, chunks: Iterable[bytes]) -> None:
        """Keeps a blob. ImageError, and nothing kept, where length or digest are others than was said."""
        if descriptor.size > self._left:
            raise ImageError(
                f"{descriptor.digest} has {descriptor.size} bytes, more than is left for all together: --limit-gb"
            )
        file = self.blob(descriptor)
        part = file.with_name(f"{file.name}.part-{os.getpid()}")
        found, size = hashlib.sha256(), 0
        try:
            with part.open("wb") as target:
                for chunk in chunks:
                    size += len(chunk)
                    if size > descriptor.size:
                        raise ImageError(
                            f"{descriptor.digest} is longer than the {descriptor.size} bytes it should have"
                        )
                    found.update(chunk)
                    target.write(chunk)
            if (size, f"sha256:{found.hexdigest()}") != (descriptor.size, descriptor.digest):
                raise ImageError(f"what came for {descriptor.digest} has another digest or length: it was not kept")
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
        self._left -= size

    def read(self, descriptor: BlobDescriptor) -> bytes:
        """An index or a manifest, or another small blob. ImageError where it is not here or not what it should be."""
        if descriptor.size > MAX_MANIFEST or not self.has(descriptor):
            raise ImageError(f"{self.folder} has not {descriptor.digest} as it should be: export the image again")
        return self.blob(descriptor).read_bytes()

    def names(self) -> dict[str, BlobDescriptor]:
        """The images by the names by which workflows know them. ImageError where this is no layout."""
        found = {}
        for one in self._index().get("manifests", []):
            try:
                descriptor = BlobDescriptor.model_validate(one)
            except ValidationError:
                raise ImageError(f"{self.folder}/index.json has an entry that is no descriptor") from None
            annotations = one.get("annotations")
            name = annotations.get(NAME) if isinstance(annotations, dict) else None
            if isinstance(name, str):
                found[name] = descriptor
        return found

    def name(self, name: str, descriptor: BlobDescriptor) -> None:
        """Puts an image that lies here whole into the index; another one of that name leaves it."""
        index = self._index()
        entry = {
            "mediaType": descriptor.media_type,
            "digest": descriptor.digest,
            "size": descriptor.size,
            "annotations": {NAME: name, CONTAINERD_NAME: full_name(name)},
        }
        others = [one for one in index.get("manifests", []) if (one.get("annotations") or {}).get(NAME) != name]
        part = self.folder / f"index.json.part-{os.getpid()}"
        part.write_text(json.dumps({"schemaVersion": 2, "mediaType": INDEXES[0], "manifests": [*others, entry]}))
        part.replace(self.folder / "index.json")

    def walk(self, descriptor: BlobDescriptor) -> Iterator[BlobDescriptor]:
        """All blobs of an image, each once and after what it points to; each held against its digest. ImageError."""
        seen: set[str] = set()

        def below(one: BlobDescriptor, depth: int) -> Iterator[BlobDescriptor]:
            if one.digest in seen:
                return
            seen.add(one.digest)
            if len(seen) > MAX_BLOBS or depth > 3:
                raise ImageError(f"{descriptor.digest} has more than {MAX_BLOBS} parts, or indexes within indexes")
            if one.is_index or one.is_manifest:
                for part in parts_of(one, self.read(one)):
                    yield from below(part, depth + 1)
            elif not self.has(one):
                raise ImageError(f"{self.folder} has not {one.digest} as it should be: export the image again")
            yield one

        yield from below(descriptor, 0)

    def _index(self) -> dict[str, Any]:
        file = self.folder / "index.json"
        try:
            if not file.exists() and self._blobs.is_dir():
                return {}
            found = json.loads(file.read_bytes()[: MAX_MANIFEST + 1])
        except (OSError, ValueError):
            raise ImageError(f"{self.folder} is no OCI image layout: give the folder of --export") from None
        if not isinstance(found, dict):
            raise ImageError(f"{self.folder}/index.json is no index")
        return found


def full_name(name: str) -> str:
    """As containerd and Docker know an image whose registry is not said: `docker.io/library/debian:stable-slim`."""
    host, slash, rest = name.partition("/")
    if not slash:
        host, rest = "docker.io", f"library/{name}"
    elif "." not in host and ":" not in host and host != "localhost":
        host, rest = "docker.io", name
    tagged = ":" in rest.rpartition("/")[2] or "@" in rest
    return f"{host}/{rest}" if tagged else f"{host}/{rest}:latest"


def _sha256(file: Path) -> str:
    with file.open("rb") as source:
        return f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}"
