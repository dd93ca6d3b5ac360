"""Files as the federation names them: `sda://DATASET/path` and `htsget://HOST/reads/ID` (read-only inputs), and
`workspace://RUN/path` (a run's own files; they stay at the node). One parser, whoever reads the URL.

A path has plain segments and 1 to 900 bytes (an S3 key holds 1,024, the run's prefix included). `%` is in no path and
in no dataset id: so ids that are URLs or DOIs can be named one day, percent-encoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal
from urllib.parse import quote

from gdi.contracts.ids import DATASET_ID, RUN_ID, matches

Scheme = Literal["sda", "workspace", "htsget"]
OWN = ".gdi"  # the platform's own part of a workspace: no task writes there, nobody outside reads it
SOURCES = f"{OWN}/sources"  # the workflow's files, each named by its SHA-256
MAX_PATH_BYTES = 900
_FORM = re.compile(r"(sda|workspace|htsget)://([^/]*)/(.*)", re.DOTALL)
_FORBIDDEN = re.compile(
    r"[\x00-\x1f\x7f\\%#?*]"
)  # control, Windows separators, anything that a second decoding or a glob would read differently
_UNPRINTED = re.compile(r"[\x00-\x1f\x7f\\#]")
_WILDCARD = re.compile(r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")  # `{sample}`, or with its constraint `{n,[0-9]{2}}`
_FORMS = {
    "sda": "sda://DATASET/path",
    "workspace": "workspace://RUN/path",
    "htsget": "htsget://HOST/reads/ID",
}


class UrlError(ValueError):
    """A URL that names no file: `why` says what is wrong, without the URL."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"{url[:300]!r}: {why}")
        self.why = why


@dataclass(frozen=True)
class StorageUrl:
    """`owner` is a dataset, a run or a host; `path` is relative, without empty, `.` or `..` parts."""

    scheme: ClassVar[Scheme]
    owner: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.owner}/{self.path}"

    @property
    def read_only(self) -> bool:
        return self.scheme != "workspace"

    @property
    def url_path(self) -> str:
        """`OWNER/path`, percent-encoded, for a gateway's or an archive's own URL of the file."""
        return f"{quote(self.owner, safe='')}/{quote(self.path)}"


@dataclass(frozen=True)
class SdaUrl(StorageUrl):
    """A file of a dataset in a node's archive."""

    scheme: ClassVar[Scheme] = "sda"

    @property
    def dataset(self) -> str:
        return self.owner

    @classmethod
    def parse(cls, url: str) -> SdaUrl:
        """UrlError where `url` is not `sda://DATASET/path`."""
        return cls(*_parts(url, "sda"))


@dataclass(frozen=True)
class WorkspaceUrl(StorageUrl):
    """A file of a run, at the node where the run wrote it."""

    scheme: ClassVar[Scheme] = "workspace"

    @property
    def run(self) -> str:
        return self.owner

    @property
    def platforms_own(self) -> bool:
        """The workflow's sources, stored by their hash: read by tasks, written by the gateway only."""
        return self.path.split("/")[0] == OWN

    @classmethod
    def parse(cls, url: str) -> WorkspaceUrl:
        """UrlError where `url` is not `workspace://RUN/path`."""
        return cls(*_parts(url, "workspace"))


@dataclass(frozen=True)
class HtsgetUrl(StorageUrl):
    """Reads or variants by htsget (GA4GH htsget 1.3). `path` may have a query: a class, a region."""

    scheme: ClassVar[Scheme] = "htsget"

    @property
    def url_path(self) -> str:
        """For asking after the file; what htsget asks of it does not matter there."""
        return f"{quote(self.owner, safe='')}/{quote(self.path.partition('?')[0])}"

    @classmethod
    def parse(cls, url: str) -> HtsgetUrl:
        """UrlError where `url` is not `htsget://HOST/reads/ID`."""
        return cls(*_parts(url, "htsget"))


def parse(url: str, *, wildcards: bool = False) -> StorageUrl:
    """A URL of any of the three schemes. With `wildcards`, Snakemake's `{sample}` stands for any name: a pattern is
    read before it is filled in. UrlError otherwise.
    """
    scheme = url.partition("://")[0]
    for kind in (SdaUrl, WorkspaceUrl, HtsgetUrl):
        if kind.scheme == scheme:
            return kind(*_parts(url, kind.scheme, wildcards=wildcards))
    forms = list(_FORMS.values())
    raise UrlError(url, f"is no file of a federation: write {', '.join(forms[:-1])} or {forms[-1]}")


def check_path(path: str) -> str | None:
    """What is wrong with a file's path below its dataset or run, or below any other folder; None where nothing is."""
    if not path or len(path.encode(errors="replace")) > MAX_PATH_BYTES:
        return f"the path must have 1 to {MAX_PATH_BYTES} bytes"
    if found := _FORBIDDEN.search(path):
        return f"the path holds {found.group()!r}"
    if not path.isprintable():
        return "the path holds characters that cannot be printed"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "the path has an empty, '.' or '..' part"
    return None


def _parts(url: str, scheme: Scheme, *, wildcards: bool = False) -> tuple[str, str]:
    """(owner, path) of a URL of this scheme. A host and its port have the letters of a dataset id."""
    form = _FORM.fullmatch(url)
    if form is None or form[1] != scheme:
        raise UrlError(url, f"it is not {_FORMS[scheme]}")
    owner, path = form[2], form[3]
    if found := _UNPRINTED.search(owner + path):  # also inside a wildcard
        raise UrlError(url, f"the path holds {found.group()!r}")
    name, plain = (_WILDCARD.sub("w", text) if wildcards else text for text in (owner, path))
    if not matches(RUN_ID if scheme == "workspace" and name == owner else DATASET_ID, name):
        raise UrlError(url, f"it is not {_FORMS[scheme]}")
    if scheme == "htsget":
        plain = plain.partition("?")[0]
    if why := check_path(plain):
        raise UrlError(url, why)
    return owner, path
