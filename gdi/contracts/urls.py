"""Files as the federation names them: `sda://DATASET/path` and `htsget://DATASET/file?referenceName=…` (read-only
inputs), `drs://HOST/ID` (the same, by an id that the node finds the file of), and `workspace://RUN/path` (a run's own
files; they stay at the node). One parser, whoever reads the URL.

A path has plain segments and 1 to 900 bytes (an S3 key holds 1,024, the run's prefix included). `%` is there only in
names of datasets whose ids are URLs or DOIs (`sda://10.5072%2Fabc/file`, `count/10.5072%2Fabc.json`): encoded once, in
one spelling, and harmless if something decodes it twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal
from urllib.parse import quote, unquote

from gdi.contracts.htsget import ENDPOINTS, HtsgetError, HtsgetRequest, by_suffix
from gdi.contracts.ids import NAME_ESCAPE, RUN_ID, dataset_name, dataset_of_name, matches

Scheme = Literal["sda", "workspace", "htsget", "drs"]
OWN = ".gdi"  # the platform's own part of a workspace: no task writes there, nobody outside reads it
SOURCES = f"{OWN}/sources"  # the workflow's files, each named by its SHA-256
MAX_PATH_BYTES = 900
_FORM = re.compile(r"(sda|workspace|htsget)://([^/]*)/(.*)", re.DOTALL)
_FORBIDDEN = re.compile(
    rf"[\x00-\x1f\x7f\\#?*]|%(?!{NAME_ESCAPE[1:]})"
)  # control, Windows separators, anything that a second decoding or a glob would read differently
_UNPRINTED = re.compile(r"[\x00-\x1f\x7f\\#]")
_WILDCARD = re.compile(r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")  # `{sample}`, or with its constraint `{n,[0-9]{2}}`
_FORMS = {
    "sda": "sda://DATASET/path",
    "workspace": "workspace://RUN/path",
    "htsget": "htsget://DATASET/file",
    "drs": "drs://HOST/ID",
}
_DRS_HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"
DRS_PREFIX = r"([a-z0-9._]{1,100}/)?[a-z0-9._]{1,100}"  # of a compact identifier: [PROVIDER/]NAMESPACE
DRS_SERVER = rf"({_DRS_HOST}|{DRS_PREFIX})"
_DRS_ID = r"(?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})+"


class UrlError(ValueError):
    """A URL that names no file: `why` says what is wrong, without the URL."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"{url[:300]!r}: {why}")
        self.why = why


@dataclass(frozen=True)
class StorageUrl:
    """`owner` is a dataset's name (`ids.dataset_name`), a run or a host; `path` is relative, without empty, `.` or `..`
    parts.
    """

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
        """`OWNER/path`, percent-encoded, for a gateway's own URL of the file."""
        return f"{quote(self.owner, safe='')}/{quote(self.path)}"


@dataclass(frozen=True)
class SdaUrl(StorageUrl):
    """A file of a dataset in a node's archive."""

    scheme: ClassVar[Scheme] = "sda"

    @classmethod
    def of(cls, dataset: str, path: str) -> SdaUrl:
        """By the dataset's id."""
        return cls(dataset_name(dataset), path)

    @property
    def dataset(self) -> str:
        """The dataset's id."""
        return _dataset_of(self.owner)

    @property
    def tes_url(self) -> str:
        """As a TES has it."""
        return str(self)

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

    @property
    def nodes_own(self) -> bool:
        """What the node keeps there for itself: no task of the run reads it either."""
        return self.platforms_own and not self.path.startswith(f"{SOURCES}/")

    @classmethod
    def parse(cls, url: str) -> WorkspaceUrl:
        """UrlError where `url` is not `workspace://RUN/path`."""
        return cls(*_parts(url, "workspace"))


@dataclass(frozen=True)
class HtsgetUrl(StorageUrl):
    """Reads or variants by htsget (GA4GH 1.3), whole or a region. `path` has the query, and one of three forms:

    - `htsget://DATASET/file.bam?referenceName=20&start=0&end=9`: the file's suffix, or `format`, says the endpoint;
    - `htsget://reads/DATASET/ID?…` and `htsget://variants/…`: as Funnel has it, the id as the server names it;
    - `htsget://HOST/reads/ID`: a server by its name, for a TES that goes there by itself.
    """

    scheme: ClassVar[Scheme] = "htsget"

    @property
    def request(self) -> HtsgetRequest | None:
        """What is asked of the archive's htsget server, which names a file `DATASET/ID`; None for another server's.
        HtsgetError where it is no request.
        """
        path, _, query = self.path.partition("?")
        if self._endpoint is not None:
            return HtsgetRequest.of_query(self._endpoint, path, query)
        if any(path.startswith(f"{endpoint}/") for endpoint in ENDPOINTS):
            return None
        found = by_suffix(path, query)
        return HtsgetRequest(found.endpoint, f"{self.owner}/{found.id}", found.parameters)

    @property
    def dataset(self) -> str:
        """The dataset's id."""
        return _dataset_of(self.owner if self._endpoint is None else self.path.partition("?")[0].partition("/")[0])

    @property
    def tes_url(self) -> str:
        """As Funnel has it: `htsget://reads/DATASET/ID?…`; another server's as it is."""
        request = self.request
        if request is None:
            return str(self)
        return str(HtsgetUrl(request.endpoint, "?".join(part for part in (request.id, request.query) if part)))

    @property
    def url_path(self) -> str:
        """`DATASET/file`, for asking after the file; what htsget asks of it does not matter there."""
        path, _, query = self.path.partition("?")
        if self._endpoint is not None and "{" not in query:
            dataset, _, rest = HtsgetRequest.of_query(self._endpoint, path, query).file.partition("/")
            return f"{quote(dataset, safe='')}/{quote(rest)}"
        return f"{quote(self.owner, safe='')}/{quote(path)}"

    @property
    def _endpoint(self) -> Literal["reads", "variants"] | None:
        return next((endpoint for endpoint in ENDPOINTS if endpoint == self.owner), None)

    @classmethod
    def parse(cls, url: str) -> HtsgetUrl:
        """UrlError where `url` is not `htsget://DATASET/file`, in one of its forms."""
        found = cls(*_parts(url, "htsget"))
        _check_request(found)
        return found


@dataclass(frozen=True)
class DrsUrl(StorageUrl):
    """An object of a DRS server (GA4GH DRS 1.4), one file of a node's archive, whose dataset and path the node finds
    out: `drs://HOST/ID`, the id percent-encoded, or a compact identifier, `drs://[PROVIDER/]NAMESPACE:ACCESSION`.
    `owner` is the host, or what stands before the colon; `path` the id as it is written.
    """

    scheme: ClassVar[Scheme] = "drs"
    compact: bool = False

    def __str__(self) -> str:
        return f"drs://{self.owner}{':' if self.compact else '/'}{self.path}"

    @property
    def id(self) -> str:
        """The object's id, decoded."""
        return self.path if self.compact else unquote(self.path)

    @property
    def url_path(self) -> str:
        """What follows `drs://`, percent-encoded once more."""
        return quote(f"{self.owner}{':' if self.compact else '/'}{self.path}")

    @classmethod
    def parse(cls, url: str, *, wildcards: bool = False) -> DrsUrl:
        """UrlError where `url` is neither form."""
        scheme, _, rest = url.partition("://")
        plain = _WILDCARD.sub(lambda found: "w" * len(found[0]), rest) if wildcards else rest
        compact = ":" in plain  # which no URI by a host's name has (DRS 1.4)
        at = plain.find(":" if compact else "/")
        if scheme != "drs" or at < 1 or _UNPRINTED.search(rest):
            raise UrlError(url, f"it is not {_FORMS['drs']} or drs://[PROVIDER/]NAMESPACE:ACCESSION")
        if why := _why_no_object(plain[:at], plain[at + 1 :], compact):
            raise UrlError(url, why)
        return cls(rest[:at], rest[at + 1 :], compact)


def _why_no_object(owner: str, path: str, compact: bool) -> str:
    """What is wrong with the parts of a `drs://` URL; "" where nothing is."""
    if compact:
        if re.match(r"[0-9]{1,5}/", path):
            return "a DRS server has no port in its name: it is always https"
        if not matches(DRS_PREFIX, owner):
            return "before the colon stands [PROVIDER/]NAMESPACE, of a-z 0-9 . _"
        return check_path(path) or ""
    if not matches(_DRS_HOST, owner):
        return "before the id stands the name of a host"
    if not matches(_DRS_ID, path) or len(path) > MAX_PATH_BYTES:
        return f"the id has 1 to {MAX_PATH_BYTES} of A-Z a-z 0-9 . _ ~ -, and any other letter percent-encoded"
    if not (decoded := unquote(path, errors="replace")).isprintable() or "\ufffd" in decoded:
        return "the id holds letters that cannot be printed"
    return "the id has a '.' or '..' part" if any(part in (".", "..") for part in decoded.split("/")) else ""


def parse(url: str, *, wildcards: bool = False) -> StorageUrl:
    """A URL of any of the four schemes. With `wildcards`, Snakemake's `{sample}` stands for any name: a pattern is
    read before it is filled in. UrlError otherwise.
    """
    scheme = url.partition("://")[0]
    if scheme == "drs":
        return DrsUrl.parse(url, wildcards=wildcards)
    for kind in (SdaUrl, WorkspaceUrl, HtsgetUrl):
        if kind.scheme == scheme:
            found = kind(*_parts(url, kind.scheme, wildcards=wildcards))
            if isinstance(found, HtsgetUrl) and not (wildcards and "{" in url):
                _check_request(found)
            return found
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
    if any(part in (".", "..") for part in unquote(path).split("/")):
        return "the path has a '.' or '..' part when it is decoded"
    return None


def _dataset_of(owner: str) -> str:
    """Of a URL that was parsed; a host is its own name, and so is a wildcard that Snakemake has not filled in yet."""
    found = dataset_of_name(owner)
    return owner if found is None else found


def _check_request(url: HtsgetUrl) -> None:
    try:
        url.request  # noqa: B018  # read for its error
    except HtsgetError as error:
        raise UrlError(str(url), error.why) from None


def _parts(url: str, scheme: Scheme, *, wildcards: bool = False) -> tuple[str, str]:
    """(owner, path) of a URL of this scheme. A host and its port have the letters of a dataset id."""
    form = _FORM.fullmatch(url)
    if form is None or form[1] != scheme:
        raise UrlError(url, f"it is not {_FORMS[scheme]}")
    owner, path = form[2], form[3]
    if found := _UNPRINTED.search(owner + path):  # also inside a wildcard
        raise UrlError(url, f"the path holds {found.group()!r}")
    name, plain = (_WILDCARD.sub("w", text) if wildcards else text for text in (owner, path))
    is_run = scheme == "workspace" and name == owner
    if not (matches(RUN_ID, name) if is_run else dataset_of_name(name) is not None):
        raise UrlError(url, f"it is not {_FORMS[scheme]}")
    if scheme == "htsget":
        plain = plain.partition("?")[0]
    if why := check_path(plain):
        raise UrlError(url, why)
    return owner, path
