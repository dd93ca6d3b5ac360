"""The kinds of storage query: `sda://DATASET/path` and `htsget://…` (read-only inputs), `workspace://RUN/path` (an
intermediate file, stays at the node).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import quote

Scheme = Literal["sda", "htsget", "workspace"]
_QUERY = re.compile(r"^(sda|htsget|workspace)://([^/]+)/(.+)$", re.DOTALL)
_OWNER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")
MAX_PATH = 1000


class QueryError(ValueError):
    """A query that means no file: says what is wrong with it and what to write."""


@dataclass(frozen=True)
class Query:
    """`owner` is a dataset (sda, and htsget by way of a gateway), a run (workspace) or a host; `path` is relative,
    without empty, `.` or `..` parts.
    """

    scheme: Scheme
    owner: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.owner}/{self.path}"

    @property
    def local_suffix(self) -> str:
        """Where the file lies below the provider's local prefix. Without the run's id: a job's command is the same in
        each run.
        """
        return f"workspace/{self.path}" if self.scheme == "workspace" else f"{self.scheme}/{self.owner}/{self.path}"

    @property
    def read_only(self) -> bool:
        return self.scheme != "workspace"

    @property
    def url_path(self) -> str:
        """For asking after the file; what htsget asks of it does not matter there."""
        path = self.path.partition("?")[0] if self.scheme == "htsget" else self.path
        return f"{quote(self.owner, safe='')}/{quote(path)}"


def parse(text: str) -> Query:
    """QueryError where `text` is none of these. Wildcards (`{sample}`) pass: Snakemake asks before it fills them in."""
    match = _QUERY.match(text)
    if match is None:
        raise QueryError(
            f"{text!r} is no storage query: write sda://DATASET/path, htsget://HOST/reads/ID or workspace://RUN/path"
        )
    scheme, owner, path = match.groups()
    scheme = cast(Scheme, scheme)
    if not _OWNER.match(owner) and "{" not in owner:
        raise QueryError(f"{text!r}: {owner!r} is not the name of a dataset or a run")
    if len(path) > MAX_PATH:
        raise QueryError(f"{text[:80]!r}…: the path is longer than {MAX_PATH} characters")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise QueryError(f"{text!r}: empty, '.' and '..' parts are not allowed in the path")
    forbidden = "#\\\x7f" if scheme == "htsget" else "#?\\\x7f"  # htsget asks for a region behind the question mark
    if any(ord(c) < 32 or c in forbidden for c in path):
        raise QueryError(f"{text!r}: '#', '?', backslashes and control characters are not allowed in the path")
    return Query(scheme, owner, path)
