"""A workflow's files as one text of bytes, which is what their digest is of: `NAME NUL SIZE NUL CONTENT` for each file,
in the order of their names. Who gets it checks its SHA-256 before anything is unpacked.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from pydantic import ValidationError

from gdi.contracts.workflow import Workflow
from gdi.contracts.workflow_files import MAX_BYTES, MAX_FILES, files_of

MAX_PACK = MAX_BYTES + MAX_FILES * 1100  # bytes: contents, and names with their sizes
MAX_NAME, MAX_DIGITS, MAX_PART = 1000, 10, 255
MAX_YAML = 256 * 1024


class _PlainLoader(yaml.SafeLoader):
    """Without aliases: some hundred bytes of them are a schema without end."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias")
        return super().compose_node(parent, index)


class BadPackError(ValueError):
    """The bytes are no workflow's files; says what is wrong with them."""


@dataclass(frozen=True)
class UnpackedWorkflow:
    """`files` by relative path, and what `workflow.yaml` says."""

    files: dict[str, bytes]
    workflow: Workflow

    @property
    def name(self) -> str:
        return self.workflow.name

    def packed(self) -> bytes:
        """The bytes that it was unpacked from."""
        return b"".join(_entry(name, content) for name, content in self.files.items())

    def write(self, folder: Path) -> None:
        """All files below `folder`, which is replaced."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        for name, content in self.files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)


def packed(folder: Path, files: Sequence[str] | None = None) -> bytes:
    """The files of a catalogue entry, in the order of its digest: `files`, or those of `files_of`."""
    names = files_of(folder) if files is None else files
    return b"".join(_entry(name, (folder / name).read_bytes()) for name in names)


def _entry(name: str, data: bytes) -> bytes:
    return f"{name}\0{len(data)}\0".encode() + data


def unpacked(body: bytes) -> UnpackedWorkflow:
    """BadPackError where these are not a catalogue entry's files in their one order."""
    if len(body) > MAX_PACK:
        raise BadPackError(f"more than {MAX_PACK} bytes")
    files: dict[str, bytes] = {}
    at, last = 0, ""
    while at < len(body):
        name, at = _field(body, at, MAX_NAME)
        size, at = _field(body, at, MAX_DIGITS)
        if not _is_path(name) or PurePosixPath(last).parts >= PurePosixPath(name).parts:
            raise BadPackError("a file's name is no relative path, or they are not in order")
        if not size.isascii() or not size.isdigit() or str(int(size)) != size or at + int(size) > len(body):
            raise BadPackError("a file's size is wrong")
        files[name], at, last = body[at : at + int(size)], at + int(size), name
        if len(files) > MAX_FILES:
            raise BadPackError(f"more than {MAX_FILES} files")
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents}
    if both := folders & set(files):
        raise BadPackError(f"{min(both)[:100]!r} is a file and a folder")
    if "Snakefile" not in files or "workflow.yaml" not in files:
        raise BadPackError("Snakefile or workflow.yaml is missing")
    try:
        if len(files["workflow.yaml"]) > MAX_YAML:
            raise BadPackError(f"workflow.yaml has more than {MAX_YAML} bytes")
        workflow = Workflow.model_validate(yaml.load(files["workflow.yaml"], Loader=_PlainLoader))  # noqa: S506  # safe
    except (ValidationError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadPackError(_not_one(error)) from None
    return UnpackedWorkflow(files, workflow)


def _not_one(error: Exception) -> str:
    """Names fields that this version does not know: who reads it is older than the workflow."""
    found = error.errors() if isinstance(error, ValidationError) else []
    unknown = {str(one["loc"][-1]) for one in found if one["type"] == "extra_forbidden"}
    names = sorted(name for name in unknown if name.isascii() and name.isidentifier() and len(name) <= 40)[:5]
    return (
        f"workflow.yaml has what this version does not know: {', '.join(names)}"
        if names
        else "workflow.yaml is not one"
    )


def _field(body: bytes, at: int, most: int) -> tuple[str, int]:
    end = body.find(b"\0", at, at + most + 1)
    if end < 0:
        raise BadPackError("it ends in the middle of a file")
    try:
        return body[at:end].decode(), end + 1
    except UnicodeDecodeError:
        raise BadPackError("a file's name is not UTF-8") from None


def _is_path(name: str) -> bool:
    parts = name.split("/")
    return name.isprintable() and all(
        part and not part.startswith(".") and "\\" not in part and len(part.encode()) <= MAX_PART for part in parts
    )
