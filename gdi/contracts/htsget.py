"""GA4GH htsget 1.3: what is asked of an archive (endpoint, id, parameters), and the ticket that answers.

Source: samtools.github.io/hts-specs/htsget.html. `encryptionScheme` is htsget-rs's, which gives Crypt4GH with it only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args
from urllib.parse import parse_qsl, quote, unquote

from pydantic import BaseModel, ConfigDict, Field

Endpoint = Literal["reads", "variants"]
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)
PARAMETERS = ("format", "class", "referenceName", "start", "end", "fields", "tags", "notags", "encryptionScheme")
SUFFIXES: dict[str, tuple[Endpoint, str]] = {  # of an archive's file: the endpoint and the format that serve it
    ".bam": ("reads", "BAM"),
    ".cram": ("reads", "CRAM"),
    ".vcf.gz": ("variants", "VCF"),
    ".vcf": ("variants", "VCF"),
    ".bcf": ("variants", "BCF"),
}
FORMATS = {name: (endpoint, suffix) for suffix, (endpoint, name) in reversed(SUFFIXES.items())}
DEFAULT_FORMAT: dict[Endpoint, str] = {"reads": "BAM", "variants": "VCF"}
MAX_POSITION = 2**32 - 1  # "32-bit unsigned integer"
MAX_VALUE = 500  # letters of a parameter's value
MAX_REGIONS = 100  # of one POST
MAX_BLOCKS = 10_000  # URLs of one ticket
MEDIA_TYPE = "application/vnd.ga4gh.htsget.v1.3.0+json"
_KEPT = "/,:;=@!$'()*~"  # left as it is in a value: none of these ends one


class HtsgetError(ValueError):
    """What is asked is no request of htsget. `name` is the error of the standard that says so."""

    def __init__(self, why: str, name: Literal["InvalidInput", "InvalidRange"] = "InvalidInput") -> None:
        super().__init__(why)
        self.why, self.name = why, name


@dataclass(frozen=True)
class HtsgetRequest:
    """One request: `id` as the archive names the file, parameters decoded and in the order of PARAMETERS."""

    endpoint: Endpoint
    id: str
    parameters: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, endpoint: Endpoint, id_: str, parameters: Iterable[tuple[str, str]]) -> HtsgetRequest:
        """HtsgetError where a parameter is not htsget's, comes twice, or makes no region."""
        given = list(parameters)
        found = dict(given)
        if unknown := next((name for name in found if name not in PARAMETERS), None):
            raise HtsgetError(f"htsget has no parameter {unknown[:40]!r}, only {', '.join(PARAMETERS)}")
        if len(found) < len(given):
            raise HtsgetError("a parameter is given twice")
        for name, value in given:
            if not value or len(value) > MAX_VALUE or not value.isprintable():
                raise HtsgetError(f"{name} must have 1 to {MAX_VALUE} letters that can be printed")
        if found.get("class", "header") != "header":
            raise HtsgetError("class can only be header")
        if found.get("format", DEFAULT_FORMAT[endpoint]).upper() not in FORMATS:
            raise HtsgetError(f"format must be one of {', '.join(FORMATS)}")
        _check_region(found)
        return cls(endpoint, id_, tuple((name, found[name]) for name in PARAMETERS if name in found))

    @classmethod
    def of_query(cls, endpoint: Endpoint, id_: str, query: str) -> HtsgetRequest:
        """From a URL's query. HtsgetError as above."""
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=50)
        except ValueError:
            raise HtsgetError(f"the query {query[:100]!r} is not name=value, joined by &") from None
        return cls.of(endpoint, id_, pairs)

    @property
    def query(self) -> str:
        return "&".join(f"{name}={quote(value, safe=_KEPT)}" for name, value in self.parameters)

    @property
    def target(self) -> str:
        """`ENDPOINT/ID?QUERY`, percent-encoded; always with its `?`: so it is never taken for a file's path."""
        return f"{self.endpoint}/{quote(self.id)}?{self.query}"

    @property
    def format(self) -> str:
        return dict(self.parameters).get("format", DEFAULT_FORMAT[self.endpoint]).upper()

    @property
    def file(self) -> str:
        """The file of the archive that an id without suffix stands for."""
        return self.id + FORMATS[self.format][1]

    def covers(self, other: HtsgetRequest) -> bool:
        """Whether who may ask this may ask the other: the same file, and the same region or any of it where this
        names none.
        """
        if (self.endpoint, self.id) != (other.endpoint, other.id):
            return False
        region = self._region
        return not any(region) or region == other._region

    @property
    def _region(self) -> tuple[str | None, ...]:
        named = dict(self.parameters)
        return tuple(named.get(name) for name in ("class", "referenceName", "start", "end"))


def parse_target(target: str) -> HtsgetRequest:
    """What `HtsgetRequest.target` wrote. HtsgetError."""
    path, _, query = target.partition("?")
    endpoint, _, id_ = path.partition("/")
    for known in ENDPOINTS:
        if known == endpoint and id_:
            return HtsgetRequest.of_query(known, unquote(id_), query)
    raise HtsgetError("it is not reads/ID or variants/ID")


def by_suffix(file: str, query: str) -> HtsgetRequest:
    """The request for a file of the archive by its name: htsget servers name it without its suffix, and the suffix says
    endpoint and format. HtsgetError where neither suffix nor `format` says what it is, or they disagree.
    """
    plain = file.removesuffix(".c4gh")
    suffix = next((s for s in SUFFIXES if plain.endswith(s) and plain != s), "")
    pairs = parse_qsl(query, keep_blank_values=True)
    wanted = dict(pairs).get("format", "").upper()
    if suffix:
        endpoint, name = SUFFIXES[suffix]
        if wanted and wanted != name:
            raise HtsgetError(f"{plain!r} is {name}, and format={wanted[:10]} asks for another file")
        given = query if wanted else "&".join(part for part in (f"format={name}", query) if part)
        return HtsgetRequest.of_query(endpoint, plain.removesuffix(suffix), given)
    if wanted in FORMATS:
        return HtsgetRequest.of_query(FORMATS[wanted][0], plain, query)
    raise HtsgetError(f"name the file with its suffix ({', '.join(SUFFIXES)}), or add format={'|'.join(FORMATS)}")


def _check_region(found: Mapping[str, str]) -> None:
    name, start, end = (found.get(key) for key in ("referenceName", "start", "end"))
    for key, value in (("start", start), ("end", end)):
        if value is None:
            continue
        if name is None or name == "*":
            raise HtsgetError(f"{key} needs a referenceName, and not that of unplaced reads (*)")
        if not (value.isascii() and value.isdecimal() and int(value) <= MAX_POSITION):
            raise HtsgetError(f"{key} must be a whole number up to {MAX_POSITION}, counted from 0")
    if start is not None and end is not None and int(start) >= int(end):
        raise HtsgetError(f"start {start} is not before end {end}", "InvalidRange")
    if "class" in found and any(value is not None for value in (name, start, end)):
        raise HtsgetError("class=header has no region")


class Region(BaseModel):
    model_config = ConfigDict(extra="forbid")

    referenceName: str
    start: int | None = Field(default=None, ge=0, le=MAX_POSITION)
    end: int | None = Field(default=None, ge=0, le=MAX_POSITION)


class PostBody(BaseModel):
    """The body of `POST /reads/ID` and `/variants/ID`: a request of several regions."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    format: str | None = None
    class_: str | None = Field(default=None, alias="class")
    fields: list[Annotated[str, Field(max_length=40)]] | None = Field(default=None, max_length=50)
    tags: list[Annotated[str, Field(max_length=40)]] | None = Field(default=None, max_length=50)
    notags: list[Annotated[str, Field(max_length=40)]] | None = Field(default=None, max_length=50)
    regions: list[Region] = Field(default_factory=list, max_length=MAX_REGIONS)
    encryptionScheme: str | None = None

    def requests(self, endpoint: Endpoint, id_: str) -> list[HtsgetRequest]:
        """A request for each region. HtsgetError."""
        whole: dict[str, str | None] = {
            "format": self.format,
            "class": self.class_,
            "fields": ",".join(self.fields) if self.fields else None,
            "tags": ",".join(self.tags) if self.tags else None,
            "notags": ",".join(self.notags) if self.notags else None,
            "encryptionScheme": self.encryptionScheme,
        }
        return [
            HtsgetRequest.of(
                endpoint,
                id_,
                [(name, str(value)) for name, value in {**whole, **region}.items() if value is not None],
            )
            for region in ([r.model_dump() for r in self.regions] or [{}])
        ]


class Block(BaseModel):
    """One URL of a ticket, with the headers that fetch it."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    url: str
    headers: dict[str, str] | None = Field(default=None, max_length=30)
    class_: Literal["header", "body"] | None = Field(default=None, alias="class")


class TicketBody(BaseModel):
    model_config = ConfigDict(extra="ignore")

    format: str | None = Field(default=None, max_length=10)
    urls: list[Block] = Field(min_length=1, max_length=MAX_BLOCKS)
    md5: str | None = Field(default=None, pattern="^[0-9a-fA-F]{32}$")


class HtsgetTicket(BaseModel):
    """`{"htsget": {…}}`: the blocks of a file in the order in which they make it."""

    model_config = ConfigDict(extra="ignore")

    htsget: TicketBody
