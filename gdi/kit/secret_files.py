"""Secrets of a local federation: made once, kept in files of mode 0600 in a folder of mode 0700, handed over by path
only.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path


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
