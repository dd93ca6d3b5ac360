"""Where a task may read and write, as the outside names it: `sda://DATASET/path` and `workspace://RUN/path`. Anything
else is refused here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gdi.kit.problem import ProblemError
from node_gateway.redaction import redact

OWN = ".gdi"  # the platform's own part of a workspace
MAX_PATH_BYTES = 900  # an S3 key holds 1024 bytes, the run's prefix included
_DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_RUN = re.compile(r"r-[0-9a-f]{20}")
_FORBIDDEN = re.compile(
    r"[\x00-\x1f\x7f\\%#?*]"
)  # control, Windows separators, anything that a second decoding or a glob would read differently


def refused(what: str, why: str) -> ProblemError:
    return ProblemError(
        403,
        "forbidden-location",
        f"{redact(what, 200)!r} is not allowed: {why}.",
        action="Read sda://DATASET/path of this run's datasets or workspace://RUN/path of this run; write to workspace://RUN/path.",
    )


def check_path(path: str, what: str) -> str:
    """A relative path with plain segments, at most 900 bytes. ProblemError 403 where a part could lead elsewhere."""
    if not path or len(path.encode(errors="replace")) > MAX_PATH_BYTES:
        raise refused(what, f"the path must have 1 to {MAX_PATH_BYTES} bytes")
    if found := _FORBIDDEN.search(path):
        raise refused(what, f"the path holds {found.group()!r}")
    if not path.isprintable():
        raise refused(what, "the path holds characters that cannot be printed")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise refused(what, "the path has an empty, '.' or '..' part")
    return path


@dataclass(frozen=True)
class SdaFile:
    dataset: str
    path: str

    @classmethod
    def parse(cls, url: str) -> SdaFile:
        dataset, slash, path = url.removeprefix("sda://").partition("/")
        if not url.startswith("sda://") or not slash or not _DATASET.fullmatch(dataset):
            raise refused(url, "it is not sda://DATASET/path")
        return cls(dataset, check_path(path, url))

    def __str__(self) -> str:
        return f"sda://{self.dataset}/{self.path}"


@dataclass(frozen=True)
class WorkspaceFile:
    run: str
    path: str

    @classmethod
    def parse(cls, url: str, run: str) -> WorkspaceFile:
        """`workspace://RUN/path` of `run` only."""
        owner, slash, path = url.removeprefix("workspace://").partition("/")
        if not url.startswith("workspace://") or not slash or not _RUN.fullmatch(owner):
            raise refused(url, "it is not workspace://RUN/path")
        if owner != run:
            raise refused(url, "it belongs to another run")
        return cls(owner, check_path(path, url))

    @property
    def platforms_own(self) -> bool:
        """The workflow's sources, stored by their hash: read by tasks, written by the gateway only."""
        return self.path.split("/")[0] == OWN

    def s3(self, bucket: str) -> str:
        return f"s3://{bucket}/{self.run}/{self.path}"

    def __str__(self) -> str:
        return f"workspace://{self.run}/{self.path}"


def from_s3(url: str, bucket: str, run: str) -> str:
    """The outside's name of an `s3://` URL that the gateway made; empty for any other (nothing of the node's storage is
    told).
    """
    prefix = f"s3://{bucket}/{run}/"
    return f"workspace://{run}/{url.removeprefix(prefix)}" if url.startswith(prefix) else ""


def check_container_path(path: str, field: str) -> str:
    """An absolute, plain path under `/gdi/`: where the task sees files. ProblemError 403 otherwise."""
    if not path.startswith("/gdi/"):
        raise ProblemError(
            403,
            "forbidden-path",
            f"{field} {redact(path, 200)!r} is not under /gdi/.",
            action="Use /gdi/work/… or /gdi/workflow/….",
        )
    check_path(path.removeprefix("/gdi/"), path)
    return path
