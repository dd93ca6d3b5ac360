"""DRS servers (GA4GH DRS 1.4) that the node's operator names, asked with the user's narrowed token what an object is.
What its access methods lead to is never fetched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from gdi.contracts.drs import DrsObject
from gdi.contracts.urls import DrsUrl, SdaUrl
from gdi.kit.problem import ProblemError
from node_gateway.listed_files import Listed
from node_gateway.locations import refused
from node_gateway.redaction import redact
from node_gateway.upstream import NotJson, TooLarge, UpstreamAnswer, client, fetch

MAX_OBJECT = 256 * 1024  # bytes of a server's answer
ANSWER_SECONDS = 20.0  # for the whole of it
MAX_DELAY = 300  # seconds of a Retry-After that are passed on


@dataclass(frozen=True)
class ArchiveFile:
    """A file of one of the run's datasets."""

    dataset: str
    listed: Listed

    @property
    def place(self) -> str:
        """Dataset and path, without `.c4gh`."""
        return f"{self.dataset}/{self.listed.path.removesuffix('.c4gh')}"

    @property
    def url(self) -> SdaUrl:
        return SdaUrl.of(self.dataset, self.listed.path.removesuffix(".c4gh") + ".c4gh")


class DrsClient:
    """`servers`: by host, or by the prefix of compact identifiers, where a server has its objects: a URL behind which
    the id is put. With `{dataset}` and `{path}` in it the server knows a file by these alone (SDA's v2), and the id is
    the archive's own. No other server is asked, and no registry of identifiers.
    """

    def __init__(self, servers: Mapping[str, str]) -> None:
        self._servers = {name.lower(): url.rstrip("/") for name, url in servers.items()}
        self._http = client("", read_timeout=ANSWER_SECONDS)

    @property
    def names(self) -> list[str]:
        return sorted(self._servers)

    async def aclose(self) -> None:
        await self._http.aclose()

    def server(self, url: DrsUrl) -> str:
        """Where the objects of this URL's server are. ProblemError 403 where the operator names no such server."""
        found = self._servers.get(url.owner.lower())
        if found is None:
            raise refused(str(url), "this node asks no such DRS server (its operator names them in DRS_SERVERS)")
        return found

    async def object(self, url: DrsUrl, token: str, file: ArchiveFile | None = None) -> DrsObject:
        """One blob. ProblemError: 403 where the user may not see it, or it is a bundle; 404; 502 where the answer is no
        object; 503 where the server is away, slow, or asks to come again later.
        """
        address = self.server(url)
        if file is not None:
            known = {"dataset": quote(file.dataset, safe=""), "path": quote(file.listed.path)}
            for name, value in known.items():
                address = address.replace(f"{{{name}}}", value)
        else:
            address = f"{address}/{quote(url.id, safe='')}"
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "Accept-Encoding": "identity"}
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await fetch(self._http, "GET", address, max_bytes=MAX_OBJECT, headers=headers)
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise _away(url, f"cannot be reached ({type(error).__name__})") from None
        except TooLarge:
            raise _wrong(url, f"answered more than {MAX_OBJECT} bytes") from None
        return _object(url, answer)


def _object(url: DrsUrl, answer: UpstreamAnswer) -> DrsObject:
    if answer.status == 202:
        delay = answer.headers.get("retry-after", "")
        seconds = min(int(delay), MAX_DELAY) if delay.isascii() and delay.isdecimal() and len(delay) < 9 else 10
        raise _away(url, "is still preparing the object", seconds)
    if answer.status in (408, 425, 429) or answer.status >= 500:
        raise _away(url, f"answered {answer.status}")
    if 300 <= answer.status < 400:
        raise _wrong(url, "sends elsewhere, and this node follows no redirect")
    if answer.status in (401, 403):
        detail = f"The DRS server does not show {shown(url)} to this user ({answer.status})."
        raise ProblemError(403, "access-denied", detail, action="Apply for access to the object's dataset.")
    if answer.status == 404:
        raise ProblemError(404, "not-found", f"The DRS server has no object {shown(url)}.", action="Check the id.")
    if answer.status != 200:
        raise _wrong(url, f"answered {answer.status}")
    try:
        value = answer.json()
        if isinstance(value, dict) and value.get("contents") is not None:
            raise refused(str(url), "it is a bundle of objects: name each of them")
        return DrsObject.model_validate(value)
    except NotJson:
        raise _wrong(url, "answered with something that is not JSON") from None
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "the whole"
        raise _wrong(url, f"sent no DRS object ({where[:100]})") from None


def shown(url: DrsUrl) -> str:
    """As it may stand in a sentence for a user."""
    return redact(str(url), 300)


def _away(url: DrsUrl, what: str, seconds: int = 3) -> ProblemError:
    detail = f"The DRS server of {shown(url)} {what}."
    return ProblemError(503, "archive-away", detail, action="Ask again in some seconds.", retry_after=seconds)


def _wrong(url: DrsUrl, what: str) -> ProblemError:
    detail = f"The DRS server of {shown(url)} {what}."
    return ProblemError(502, "archive-error", detail, action="Tell the node's operator.")
