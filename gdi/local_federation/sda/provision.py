"""Depositing a file: `python -m gdi.local_federation.sda.provision --archive DIR --dataset ID --path NAME.c4gh FILE`
encrypts it into the archive's folder.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any, BinaryIO, cast

from gdi.local_federation.sda.archive import SUFFIX, Archive, Plain, folder_of, safe_parts, write_index
from gdi.local_federation.sda.crypt import encrypt


class _Hashing:
    """A reader that remembers the SHA-256 and the size of what went through; the library reads by `readinto`."""

    def __init__(self, source: BinaryIO) -> None:
        self.source, self.digest, self.size = source, hashlib.sha256(), 0

    def readinto(self, buffer: bytearray) -> int:
        count = int(cast(Any, self.source).readinto(buffer) or 0)
        self.digest.update(memoryview(buffer)[:count])
        self.size += count
        return count


def add(archive: Path, dataset: str, path: str, plaintext: Path, *, key_file: Path | None = None) -> Plain:
    """Encrypts `plaintext` to the archive's own key (made when absent) as `DATASET/path` (`.c4gh` appended where
    missing). Size and SHA-256 of the plaintext.

    Replaces a file that is there. ValueError where the path could leave the dataset; OSError where a file cannot be
    read or written.
    """
    path = path if path.endswith(SUFFIX) else path + SUFFIX
    if safe_parts(path) is None or not dataset or dataset.startswith("."):
        raise ValueError(f"{dataset}/{path} is no path of a dataset: no empty, hidden or parent parts")
    archive.mkdir(parents=True, exist_ok=True)
    key = Archive(archive, key_file).key
    target = archive / folder_of(dataset) / path
    target.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed: a running archive never serves half a file.
    draft = target.with_name(f".{target.name}.new")
    with plaintext.open("rb") as source, draft.open("wb") as out:
        reader = _Hashing(source)
        encrypt(cast(BinaryIO, reader), out, key)
    plain = Plain(size=reader.size, sha256=reader.digest.hexdigest())
    write_index(archive, dataset, path, plain)
    draft.replace(target)
    return plain


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--path", help="name in the dataset; default: the file's own name")
    parser.add_argument("file", type=Path)
    args = parser.parse_args()
    try:
        plain = add(args.archive, args.dataset, args.path or args.file.name, args.file)
    except (OSError, ValueError) as error:
        print(f"provision: {error}", file=sys.stderr)
        return 2
    print(f"{plain.sha256}  {plain.size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
