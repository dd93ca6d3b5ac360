"""The two kinds of storage query: `sda://DATASET/path` (a read-only input) and `workspace://RUN/path` (an intermediate file that never leaves the node)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

_QUERY = re.compile(r"^(sda|workspace)://([^/]+)/(.+)$", re.DOTALL)
_OWNER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")
MAX_PATH = 1000


class QueryError(ValueError):
    """A query that means no file: says what is wrong with it and what to write."""


@dataclass(frozen=True)
class Query:
    """`owner` is a dataset (sda) or a run (workspace); `path` is relative, without empty, `.` or `..` parts."""

    scheme: Literal["sda", "workspace"]
    owner: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.owner}/{self.path}"

    @property
    def local_suffix(self) -> str:
        """Where the file lies below the provider's local prefix. Without the run's id: a job's command is the same in each run."""
        return f"workspace/{self.path}" if self.scheme == "workspace" else f"sda/{self.owner}/{self.path}"

    @property
    def url_path(self) -> str:
        return f"{quote(self.owner, safe='')}/{quote(self.path)}"


def parse(text: str) -> Query:
    """QueryError where `text` is not one of the two kinds. Wildcards (`{sample}`) pass: Snakemake asks before it fills them in."""
    match = _QUERY.match(text)
    if match is None:
        raise QueryError(f"{text!r} is no storage query: write sda://DATASET/path or workspace://RUN/path")
    scheme, owner, path = match.groups()
    if not _OWNER.match(owner) and "{" not in owner:
        raise QueryError(f"{text!r}: {owner!r} is not the name of a dataset or a run")
    if len(path) > MAX_PATH:
        raise QueryError(f"{text[:80]!r}…: the path is longer than {MAX_PATH} characters")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise QueryError(f"{text!r}: empty, '.' and '..' parts are not allowed in the path")
    if any(ord(c) < 32 or c in "#?\\\x7f" for c in path):
        raise QueryError(f"{text!r}: '#', '?', backslashes and control characters are not allowed in the path")
    return Query("sda" if scheme == "sda" else "workspace", owner, path)
