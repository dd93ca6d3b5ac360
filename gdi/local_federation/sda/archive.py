"""The archive's folder: datasets, their files, each file's size and checksum in plaintext.

`ARCHIVE/DATASET/path.c4gh`, with `ARCHIVE/.index/DATASET/path.c4gh.json` = `{"size", "sha256"}` of the plaintext as it
was deposited, and `ARCHIVE/.keys/archive.sec`. A dataset id that is a URL is a folder by its percent-encoded name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from pydantic import BaseModel, ValidationError

from gdi.kit.canonical import sha256_hex
from gdi.local_federation.sda.crypt import Crypt4ghFile, KeyPair, NotCrypt4GH

SUFFIX = ".c4gh"


class Plain(BaseModel):
    """The plaintext of a file as it was deposited: size in bytes, SHA-256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class ArchiveEntry:
    dataset: str
    path: str  # ends in .c4gh
    file: Path

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.path}"

    @property
    def id(self) -> str:
        """A stable id in the form of EGA's, the same in every listing."""
        return f"EGAF{int(sha256_hex(self.name.encode())[:12], 16) % 10**11:011d}"


def safe_parts(path: str) -> list[str] | None:
    """The parts of a relative path, or None where it could leave its folder or name something hidden."""
    parts = path.split("/")
    if len(path) > 1000 or any(not p or p.startswith(".") or "\0" in p or "\\" in p for p in parts):
        return None
    return parts


def folder_of(dataset: str) -> str:
    return quote(dataset, safe="")


class Archive:
    def __init__(self, root: Path, key_file: Path | None = None) -> None:
        self.root = root
        self.key_file = key_file or root / ".keys" / "archive.sec"
        self.key = KeyPair.load_or_make(self.key_file)
        self._computed: dict[tuple[str, int, int], Plain] = {}

    def datasets(self) -> list[str]:
        return sorted(unquote(p.name) for p in self.root.iterdir() if p.is_dir() and not p.name.startswith("."))

    def entries(self, dataset: str) -> Iterator[ArchiveEntry]:
        folder = self.root / folder_of(dataset)
        for file in sorted(folder.rglob(f"*{SUFFIX}")):
            path = file.relative_to(folder).as_posix()
            if safe_parts(path) and file.is_file() and not file.is_symlink():
                yield ArchiveEntry(dataset, path, file)

    def find(self, dataset: str, path: str) -> ArchiveEntry | None:
        """The file `path` (with or without .c4gh) of a dataset that exists."""
        parts = safe_parts(path)
        if parts is None:
            return None
        path = path if path.endswith(SUFFIX) else path + SUFFIX
        folder = (self.root / folder_of(dataset)).resolve()
        file = folder / path
        # A link may lead out of the dataset: only what really lies in it is served.
        if not file.is_file() or file.is_symlink() or not file.resolve().is_relative_to(folder):
            return None
        return ArchiveEntry(dataset, path, file)

    def by_id(self, file_id: str) -> ArchiveEntry | None:
        return next((e for d in self.datasets() for e in self.entries(d) if e.id == file_id), None)

    def plain(self, entry: ArchiveEntry) -> Plain:
        """From the index; computed once by decrypting where the file was put there without one. NotCrypt4GH where that
        fails.
        """
        index = self.root / ".index" / folder_of(entry.dataset) / (entry.path + ".json")
        try:
            return Plain.model_validate_json(index.read_bytes())
        except (OSError, ValidationError):
            pass
        status = entry.file.stat()
        key = (entry.name, status.st_size, status.st_mtime_ns)
        if key not in self._computed:
            stored = Crypt4ghFile.open(entry.file)
            digest = hashlib.sha256()
            for piece in stored.plaintext(self.key, 0, stored.plain_size):
                digest.update(piece)
            if len(self._computed) > 10_000:
                self._computed.clear()
            self._computed[key] = Plain(size=stored.plain_size, sha256=digest.hexdigest())
        return self._computed[key]

    def listing(self, dataset: str) -> list[dict[str, str | int]]:
        """`/metadata/datasets/{ds}/files`; a file that cannot be read as Crypt4GH is listed with size 0 and no
        checksum.
        """
        found: list[dict[str, str | int]] = []
        for entry in self.entries(dataset):
            try:
                plain = self.plain(entry)
            except NotCrypt4GH:
                plain = Plain(size=0, sha256="")
            found.append(
                {
                    "fileId": entry.id,
                    "datasetId": dataset,
                    "displayFileName": entry.path.rsplit("/", 1)[-1],
                    "filePath": entry.path,
                    "fileName": entry.path,
                    "fileSize": entry.file.stat().st_size,
                    "decryptedFileSize": plain.size,
                    "decryptedFileChecksum": plain.sha256,
                    "decryptedFileChecksumType": "SHA256",
                    "fileStatus": "ready",
                }
            )
        return found


def write_index(root: Path, dataset: str, path: str, plain: Plain) -> None:
    index = root / ".index" / folder_of(dataset) / (path + ".json")
    index.parent.mkdir(parents=True, exist_ok=True)
    draft = index.with_name(index.name + ".new")
    draft.write_text(json.dumps(plain.model_dump()))
    draft.replace(index)
