"""The store as a folder, for one machine or a disk that broker and Airflow share."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from typing import IO

from gdi.result_store.model import (
    PART,
    NothingStoredError,
    StoreAwayError,
    TooManyBytesError,
    Upload,
    WrongHashError,
    WrongOffsetError,
    checked,
)

PIECE = 1024 * 1024


class FolderStore:
    """`root` is made when the first file comes. Several processes may write: an upload is locked while it grows."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def upload(self, key: str) -> Upload:
        whole = self._path(key)
        with _errors():
            if whole.is_file():
                return Upload(whole.stat().st_size, complete=True)
            part = _part(whole)
            return Upload(part.stat().st_size if part.is_file() else 0, complete=False)

    def append(self, key: str, chunk: IO[bytes], *, offset: int, size: int, last: bool) -> None:
        with _errors(), self._locked(key) as file:
            assert file is not None
            here = file.seek(0, os.SEEK_END)
            if here != offset:
                raise WrongOffsetError(here)
            try:
                shutil.copyfileobj(chunk, file, PIECE)
                file.flush()
                good = file.tell() == offset + size
            except BaseException:
                file.truncate(offset)
                raise
            if not good:
                file.truncate(offset)
                raise StoreAwayError("a chunk was cut short on its way to the disk")

    def complete(self, key: str, sha256: str) -> None:
        whole = self._path(key)
        with _errors():
            if whole.is_file():
                return
            if not _part(whole).is_file():
                raise NothingStoredError
            with self._locked(key, done=True) as file:
                if file is None:
                    return
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    _part(whole).unlink()
                    raise WrongHashError
                os.fsync(file.fileno())
                _part(whole).rename(whole)

    def put(self, key: str, source: IO[bytes]) -> None:
        whole = self._path(key)
        with _errors():
            whole.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            handle, name = tempfile.mkstemp(dir=whole.parent, prefix=".", suffix=PART)
            try:
                with os.fdopen(handle, "wb") as file:
                    shutil.copyfileobj(source, file, PIECE)
                    file.flush()
                    os.fsync(file.fileno())  # else a machine that loses its power leaves an empty answer of that name
                Path(name).chmod(0o640)
                Path(name).replace(whole)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise

    def fetch(self, key: str, into: IO[bytes], limit: int) -> str:
        total, size = hashlib.sha256(), 0
        with _errors():
            try:
                file = self._path(key).open("rb")
            except FileNotFoundError:
                raise NothingStoredError from None
            with file:
                while piece := file.read(PIECE):
                    size += len(piece)
                    if size > limit:
                        raise TooManyBytesError
                    total.update(piece)
                    into.write(piece)
        return total.hexdigest()

    def usage(self, prefix: str) -> tuple[int, int]:
        folder = self._root / prefix
        with _errors():
            sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
        return len(sizes), sum(sizes)

    def sweep(self, before: float) -> int:
        torn = 0
        with _errors():
            for path in self._root.rglob("*" + PART) if self._root.is_dir() else ():
                if path.is_file() and path.stat().st_mtime < before:
                    path.unlink(missing_ok=True)
                    torn += 1
        return torn

    def _path(self, key: str) -> Path:
        return self._root / checked(key)

    @contextmanager
    def _locked(self, key: str, *, done: bool = False) -> Iterator[BufferedRandom | None]:
        """The growing file, which nobody else appends to. Where another process ended it while we waited, there is
        none (`done`: that is fine); where one swept it, it is opened anew.
        """
        whole = self._path(key)
        part = _part(whole)
        whole.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        while True:
            with part.open("a+b") as file:
                part.chmod(0o640)
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                if part.is_file() and os.path.samestat(part.stat(), os.fstat(file.fileno())):
                    yield file
                    return
                if whole.is_file():
                    part.unlink(missing_ok=True)  # ours: made while the other one ended
                    if not done:
                        raise WrongOffsetError(whole.stat().st_size)
                    yield None
                    return


def _part(whole: Path) -> Path:
    return whole.with_name(whole.name + PART)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreAwayError(f"the store's folder cannot be used ({error.strerror or type(error).__name__})") from None
