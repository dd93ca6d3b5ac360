"""Files that hold secrets: read only where nobody else may read them, written so that nobody else can. A secret is
handed over by its file's path only.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from pathlib import Path

from gdi.kit.settings import SettingsError

MAX_SECRET_BYTES = 64 * 1024


def read_secret(path: Path, what: str = "", *, of_cluster: bool = False) -> bytes:
    """The content of a file that only its owner may read (no bit of 0077), at most 64 KiB. SettingsError names the
    setting `what`, the file and how to mend it; never the content.

    A file of root's that this process reads by one of its groups is as private: so Kubernetes mounts Secrets (root's,
    mode 0440, the pod's group). `of_cluster`: the kubelet keeps the file, such as a projected service account token;
    it gives it to the pod's user and lets the pod's group read it.
    """
    named = f"{what}: {path}" if what else str(path)
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            mode = stat.S_IMODE(found.st_mode)
            groups = {os.getegid(), *os.getgroups()}
            given = found.st_gid in groups and (of_cluster or found.st_uid == 0 != os.geteuid())
            if mode & (0o037 if given else 0o077):
                raise SettingsError(f"{named} may be read by others (mode {mode:04o}); chmod 600 it")
            data = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{named}: {error.strerror}") from None
    if not data.strip() or len(data) > MAX_SECRET_BYTES:
        raise SettingsError(f"{named} is empty or larger than {MAX_SECRET_BYTES} bytes")
    return data


def read_secret_text(path: Path, what: str = "", *, of_cluster: bool = False) -> str:
    """`read_secret` of a text, without the white space around it."""
    try:
        return read_secret(path, what, of_cluster=of_cluster).decode().strip()
    except UnicodeDecodeError:
        raise SettingsError(f"{what}: {path} is not UTF-8 text" if what else f"{path} is not UTF-8 text") from None


def write_private(path: Path, data: str | bytes) -> Path:
    """Writes a file that only its owner can read, never readable in between; replaces atomically."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
    temporary.replace(path)
    return path


class Secrets:
    """A folder of named secrets. `path` makes the secret where absent; `read` gives it to the launcher itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)

    def path(self, name: str, *, size: int = 32) -> Path:
        file = self.folder / name
        if not file.exists():
            write_private(file, secrets.token_urlsafe(size))
        return file

    def read(self, name: str, *, size: int = 32) -> str:
        return self.path(name, size=size).read_text()

    def json(self, name: str, make: dict[str, str]) -> Path:
        """A JSON object of secrets, made from `make` where absent."""
        file = self.folder / name
        if not file.exists():
            write_private(file, json.dumps(make))
        return file
