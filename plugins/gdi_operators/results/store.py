"""Answers in the result store, for Airflow's processes that share no disk: a worker publishes a run's folder, and
whoever shows it brings it into a folder of its own. A file lies under its SHA-256, and a manifest names them all: an
answer is seen whole, in its old or its new version.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from threading import Lock

from pydantic import Field

from gdi.contracts.ids import RUN_ID, Sha256, matches
from gdi.kit.models import Frozen
from gdi.kit.settings import SettingsError
from gdi.releases.columns import sha256_of
from gdi.result_store.location import opened_by
from gdi.result_store.model import ANSWERS, NothingStoredError, ResultStore, StoreAwayError, TooManyBytesError
from gdi_operators.results.whole_file import write
from gdi_operators.settings import settings

MAX_MANIFEST, MAX_FILES = 4 * 1024 * 1024, 10_000
FRESH = 3.0  # seconds for which a process does not ask again whether an answer changed
BROUGHT = ".brought"  # in a folder that this module filled; a worker's own is never overwritten
LAST = "releases.json"  # brought last: a reader begins with it
PATH = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,199}/){0,12}[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_looked: dict[Path, float] = {}
_lock = Lock()


class PublishedFile(Frozen):
    sha256: Sha256
    bytes: int = Field(ge=0)


class Manifest(Frozen):
    files: dict[str, PublishedFile] = Field(default_factory=dict, max_length=MAX_FILES)


@lru_cache(maxsize=1)
def found() -> ResultStore | None:
    """The process's store, or None where none is set. SettingsError."""
    return opened_by(settings())


def need() -> ResultStore:
    """The store. SettingsError where none is set."""
    store = found()
    if store is None:
        raise SettingsError("GDI_RESULT_STORE is not set for Airflow's processes: it is the broker's RESULT_STORE")
    return store


def publish(run: str, folder: Path) -> None:
    """Everything in the run's folder. What another process published and is not here stays. StoreAwayError."""
    store = found()
    if store is None:
        return
    files = dict(_manifest(store, run).files)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or path.is_symlink() or not PATH.fullmatch(name):
            continue
        one = PublishedFile(sha256=_sha256(path), bytes=path.stat().st_size)
        if files.get(name) != one:
            with path.open("rb") as source:
                store.put(_key(run, one.sha256), source)
            files[name] = one
    body = Manifest(files=files).model_dump_json().encode()
    store.put(_manifest_key(run), BytesIO(body))


def own(folder: Path) -> None:
    """From now on this worker writes the folder, and nothing is brought into it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BROUGHT).unlink(missing_ok=True)


def restore(run: str, folder: Path, names: Collection[str]) -> None:
    """The named files and earlier versions as they were published, into a worker's own folder: another worker may have
    made them. StoreAwayError.
    """
    store = found()
    for name, one in _manifest(store, run).files.items() if store is not None else ():
        if (name in names or name.startswith("versions/")) and PATH.fullmatch(name) and not _is(folder / name, one):
            assert store is not None
            _bring(store, run, one, folder / name)


def bring(run: str, folder: Path) -> None:
    """What was published, into `folder`, where it is not there already. Nothing without a store, and where a worker
    writes the folder itself. StoreAwayError.
    """
    store = found()
    if folder.is_dir() and not (folder / BROUGHT).is_file():
        return
    with _lock:
        if store is None or time.monotonic() - _looked.get(folder, -FRESH) < FRESH:
            return
        if len(_looked) > 1000:
            _looked.clear()
        _looked[folder] = time.monotonic()
    files = _manifest(store, run).files
    if not files:
        return
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / BROUGHT).touch()
    for name, one in sorted(files.items(), key=lambda item: item[0] == LAST):
        if PATH.fullmatch(name) and not _is(folder / name, one):
            _bring(store, run, one, folder / name)


def _bring(store: ResultStore, run: str, one: PublishedFile, file: Path) -> None:
    different = f"{file.name} of the answer is not what was published"

    def fetch(draft: Path) -> None:
        with draft.open("wb") as into:
            if store.fetch(_key(run, one.sha256), into, one.bytes) != one.sha256:
                raise StoreAwayError(different)

    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(file, fetch)
    except (NothingStoredError, TooManyBytesError):
        raise StoreAwayError(different) from None


def _manifest(store: ResultStore, run: str) -> Manifest:
    into = BytesIO()
    try:
        store.fetch(_manifest_key(run), into, MAX_MANIFEST)
    except NothingStoredError:
        return Manifest()
    except TooManyBytesError:
        raise StoreAwayError("the answer's manifest is too large") from None
    try:
        return Manifest.model_validate_json(into.getvalue())
    except ValueError:
        raise StoreAwayError("the answer's manifest cannot be read") from None


def _manifest_key(run: str) -> str:
    if not matches(RUN_ID, run):
        raise ValueError("not the id of a run")
    return f"{ANSWERS}/{run}/manifest.json"


def _key(run: str, sha256: str) -> str:
    return f"{ANSWERS}/{run}/files/{sha256}"


def _is(file: Path, one: PublishedFile) -> bool:
    return file.is_file() and file.stat().st_size == one.bytes and _sha256(file) == one.sha256


def _sha256(file: Path) -> str:
    state = file.stat()
    return _counted(file, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4096)
def _counted(file: Path, _changed: int, _size: int) -> str:
    return sha256_of(file)
