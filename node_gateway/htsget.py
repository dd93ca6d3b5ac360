"""The archive's htsget server (GA4GH htsget 1.3), asked with the user's own token: tickets, and the blocks that they
name. It is told the TES's key, for which it re-encrypts the header of what it gives.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Literal
from urllib.parse import quote, unquote_to_bytes, urlsplit

import httpx
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import ValidationError

from gdi.contracts.htsget import MEDIA_TYPE, Block, Endpoint, HtsgetRequest, HtsgetTicket
from gdi.contracts.ids import dataset_of_name
from gdi.kit.jose import SigningKey
from node_gateway.downloads import MAGIC, Download, SdaRefusal, joined
from node_gateway.keys import PublicKey
from node_gateway.redaction import redact
from node_gateway.upstream import NotJson, TooLarge, UpstreamAnswer, client, fetch

MAX_TICKET = 16 * 1024 * 1024
MAX_INFO = 64 * 1024
MAX_SEALED = 16 * 1024  # letters of a sealed block
MAX_HEADER = 4096  # of a block: URL, and headers together
INFO_FRESH_FOR = 60.0
KEY_HEADERS = ("Client-Public-Key", "Htsget-Context-Public-Key")  # as SDA's htsget has it, and as htsget-rs
PASSED = ("content-length", "content-range")
Encryption = Literal["header", "scheme", "none"]


@dataclass(frozen=True)
class SealedBlock:
    """One block of a ticket as it is given to the TES: only this gateway can read it. `id`: of the file (`DATASET/ID`);
    `user`: fetched with the user's token, fresh each time; `first`: what comes must begin as Crypt4GH does.
    """

    id: str
    url: str
    headers: dict[str, str]
    user: bool
    first: bool


class BlockSeal:
    """Blocks as opaque words, each for one task: no state, so that any replica opens what another one sealed."""

    def __init__(self, key: SigningKey) -> None:
        secret = key.private.private_numbers().private_value.to_bytes(32, "big")
        derived = HKDF(hashes.SHA256(), 32, salt=None, info=b"gdi htsget blocks").derive(secret)
        self._cipher = AESGCM(derived)

    def seal(self, block: SealedBlock, task: int) -> str:
        plain = json.dumps(astuple(block), separators=(",", ":")).encode()
        nonce = os.urandom(12)
        sealed = nonce + self._cipher.encrypt(nonce, plain, str(task).encode())
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, word: str, task: int) -> SealedBlock | None:
        """None where it is not a block of this task's."""
        if len(word) > MAX_SEALED or not word.isascii():
            return None
        try:
            sealed = base64.urlsafe_b64decode(word + "=" * (-len(word) % 4))
            return SealedBlock(*json.loads(self._cipher.decrypt(sealed[:12], sealed[12:], str(task).encode())))
        except (InvalidTag, ValueError, binascii.Error):
            return None


class HtsgetClient:
    """`url`: of the server, with its path before `/reads` and `/variants`. Blocks are fetched from there and from
    `block_urls` (beginnings of URLs) only: a ticket that names another server is refused.
    """

    def __init__(
        self, url: str, *, block_urls: Sequence[str], key: PublicKey, encryption: Encryption, seal: BlockSeal
    ) -> None:
        self._http = client(url, read_timeout=60)
        self._origins = [_origin(url), *block_urls]
        self._key, self._encryption, self.seal = key, encryption, seal
        self._infos: dict[Endpoint, tuple[float, dict[str, Any]]] = {}

    async def aclose(self) -> None:
        await self._http.aclose()

    async def service_info(self, endpoint: Endpoint) -> dict[str, Any]:
        """The server's own, kept a minute. SdaRefusal."""
        at, known = self._infos.get(endpoint, (-1e9, {}))
        if time.monotonic() - at < INFO_FRESH_FOR:
            return known
        answer = await self._ask("GET", f"/{endpoint}/service-info", MAX_INFO)
        if answer.status != 200 or not isinstance(found := _json(answer), dict):
            raise SdaRefusal("Unavailable", f"The archive's htsget server answered service-info with {answer.status}.")
        self._infos[endpoint] = (time.monotonic(), found)
        return found

    async def ticket(self, requests: Sequence[HtsgetRequest], token: str, *, post: bool = False) -> HtsgetTicket:
        """The ticket for requests of one file: by GET where it is one, else by POST. SdaRefusal with what the server
        says; its own blocks are still to be sealed.
        """
        first = requests[0]
        path, options = f"/{first.endpoint}/{_archive_id(first.id)}", self._options(requests, post=post)
        headers = {"Authorization": f"Bearer {token}", "Accept": f"{MEDIA_TYPE}, application/json"}
        headers |= dict.fromkeys(KEY_HEADERS, self._key.header)
        answer = await self._ask("POST" if post else "GET", path, MAX_TICKET, headers=headers, **options)
        if answer.status != 200:
            raise _refusal(answer, first)
        try:
            return HtsgetTicket.model_validate(_json(answer))
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            raise SdaRefusal("ArchiveError", f"The archive's htsget server sent no usable ticket ({where}).") from None

    def sealed(self, block: Block, *, id_: str, first: bool, task: int, token: str) -> str | None:
        """The block for the TES; None where its URL is data and stays as it is. SdaRefusal where it leads elsewhere, or
        should be Crypt4GH and is not.
        """
        encrypted = first and self._encryption != "none"
        if block.url.startswith("data:"):
            if encrypted and not _data(block.url).startswith(MAGIC):
                raise _not_encrypted()
            return None
        if not any(_below(block.url, start) for start in self._origins):
            detail = "The archive's htsget server sends elsewhere for its data, which this node does not allow."
            raise SdaRefusal("ArchiveError", f"{detail} Its operator adds the server to HTSGET_BLOCK_URLS.")
        headers = {name: value for name, value in (block.headers or {}).items() if name.lower() != "accept-encoding"}
        if len(block.url) > MAX_HEADER or sum(len(n) + len(v) for n, v in headers.items()) > MAX_HEADER:
            raise SdaRefusal("ArchiveError", f"A URL of the ticket, or its headers, has more than {MAX_HEADER} bytes.")
        own = next((name for name in headers if name.lower() == "authorization"), None)
        user = own is not None and headers[own].removeprefix("Bearer ") == token
        if user and own is not None:
            del headers[own]
        return self.seal.seal(SealedBlock(id_, block.url, headers, user, encrypted), task)

    async def block(self, block: SealedBlock, token: str) -> Download:
        """The open answer (200 or 206), known to begin as Crypt4GH where it must. SdaRefusal."""
        headers = {**block.headers, "Accept-Encoding": "identity"}
        if block.user:
            headers["Authorization"] = f"Bearer {token}"
        try:
            answer = await self._http.send(self._http.build_request("GET", block.url, headers=headers), stream=True)
        except (httpx.HTTPError, ValueError) as error:
            raise SdaRefusal("Unavailable", f"The archive's data cannot be reached ({type(error).__name__}).") from None
        try:
            if answer.status_code not in (200, 206):
                raise _block_refusal(answer.status_code)
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise SdaRefusal("ArchiveError", "The archive sent data of its ticket with a content encoding.")
            chunks, start = answer.aiter_raw(256 * 1024), b""
            while block.first and len(start) < len(MAGIC):
                start += await anext(chunks)
            if block.first and not start.startswith(MAGIC):
                raise _not_encrypted()
        except (StopAsyncIteration, httpx.HTTPError):
            await answer.aclose()
            raise SdaRefusal("Truncated", "The archive's answer broke off at its beginning.") from None
        except BaseException:
            await answer.aclose()
            raise
        kept = {name: answer.headers[name] for name in PASSED if name in answer.headers}
        return Download(kept, joined(start, chunks), answer)

    def _options(self, requests: Sequence[HtsgetRequest], *, post: bool) -> dict[str, Any]:
        """The parameters as GET or POST carry them (htsget 1.3: lists and regions in a POST)."""
        scheme = {"encryptionScheme": "C4GH"} if self._encryption == "scheme" else {}
        if not post:
            return {"params": [*(p for p in requests[0].parameters if p[0] not in scheme), *scheme.items()]}
        lists = ("fields", "tags", "notags")
        whole: dict[str, Any] = {n: v.split(",") if n in lists else v for n, v in requests[0].parameters}
        regions = []
        for one in requests:
            named = dict(one.parameters)
            numbers: dict[str, Any] = {name: int(named[name]) for name in ("start", "end") if name in named}
            if "referenceName" in named:
                regions.append(numbers | {"referenceName": named["referenceName"]})
        for name in ("referenceName", "start", "end"):
            whole.pop(name, None)
        return {"json": {**whole, **scheme, **({"regions": regions} if regions else {})}}

    async def _ask(self, method: str, path: str, limit: int, **request: Any) -> UpstreamAnswer:  # httpx's arguments
        try:
            return await fetch(self._http, method, path, max_bytes=limit, **request)
        except httpx.HTTPError as error:
            detail = f"The archive's htsget server cannot be reached ({type(error).__name__})."
            raise SdaRefusal("Unavailable", detail) from None
        except TooLarge:
            raise SdaRefusal("ArchiveError", f"The archive's htsget server answered more than {limit} bytes.") from None


def _archive_id(id_: str) -> str:
    """`DATASET/ID` as a path of the archive's: the dataset's id is one part, encoded once."""
    name, _, file = id_.partition("/")
    dataset = dataset_of_name(name)
    return f"{quote(name if dataset is None else dataset, safe=':')}/{quote(file)}"


def _refusal(answer: UpstreamAnswer, request: HtsgetRequest) -> SdaRefusal:
    """By status and by the standard's error (`{"htsget": {"error", "message"}}`)."""
    value = _json(answer)
    body = value.get("htsget") if isinstance(value, dict) else None
    error, message = (str(body.get(k, "")) if isinstance(body, dict) else "" for k in ("error", "message"))
    words = redact(" ".join(part for part in (error, message) if part), 200).strip()
    reason = f" ({words})" if words.isprintable() and words else ""
    what = f"{request.endpoint} of {request.id}"
    if answer.status in (401, 403):
        return SdaRefusal("AccessDenied", f"The archive's htsget server does not open {what} to this user{reason}.")
    if answer.status == 404:
        return SdaRefusal("NotFound", f"The archive's htsget server has no {what}{reason}.")
    if answer.status in (400, 413, 422):
        return SdaRefusal("InvalidRequest", f"The archive's htsget server refuses {what}{reason}.")
    kind: Literal["Unavailable", "ArchiveError"] = (
        "Unavailable" if answer.status in (429, 500, 502, 503, 504) else "ArchiveError"
    )
    return SdaRefusal(kind, f"The archive's htsget server answered {answer.status} for {what}{reason}.")


def _block_refusal(status: int) -> SdaRefusal:
    if status in (401, 403):
        return SdaRefusal("AccessDenied", f"The archive does not give the data of its ticket ({status}).")
    if status in (404, 410, 416):
        return SdaRefusal("ArchiveError", f"The archive's ticket leads to no data ({status}): ask for a new one.")
    return SdaRefusal("Unavailable", f"The archive answered {status} for data of its ticket.")


def _not_encrypted() -> SdaRefusal:
    return SdaRefusal("NotCrypt4GH", "What the archive's htsget server gives is not Crypt4GH for this node's TES.")


def _json(answer: UpstreamAnswer) -> Any:  # any JSON value, None where it is none
    try:
        return answer.json()
    except NotJson:
        return None


def _data(url: str) -> bytes:
    """The first bytes of a `data:` URL (RFC 2397); empty where it is none."""
    kind, _, content = url[:4096].partition(",")
    if not kind.endswith(";base64"):
        return unquote_to_bytes(content)
    whole = content[: len(content) // 4 * 4]
    try:
        return base64.b64decode(whole)
    except binascii.Error:
        return b""


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/"


def _below(url: str, start: str) -> bool:
    """Whether a URL is of this server, and of this path where `start` has one; a user in it is never."""
    try:
        one, other = urlsplit(url), urlsplit(start)
        same = (one.scheme, one.hostname, one.port) == (other.scheme, other.hostname, other.port)
    except ValueError:
        return False
    plain = "@" not in one.netloc and "\\" not in url and "/../" not in one.path and url.isascii() and url.isprintable()
    return same and plain and one.path.startswith(other.path or "/")
