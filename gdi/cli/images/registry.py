"""A registry (OCI distribution-spec 1.1) by HTTP: images from there into a layout, and from a layout there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urljoin, urlsplit

import httpx

from gdi.cli.images.layout import (
    DIGEST,
    INDEXES,
    MANIFESTS,
    MAX_BLOBS,
    MAX_MANIFEST,
    BlobDescriptor,
    ImageError,
    ImageLayout,
    chunks_of,
    digest_of,
    full_name,
    parts_of,
)
from gdi.cli.images.signatures import tag_of
from gdi.kit import bounded_read

ACCEPT = ", ".join((*INDEXES, *MANIFESTS))
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_REPOSITORY = re.compile(r"[a-z0-9]+([._/-]+[a-z0-9]+)*")
_REFERENCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|sha256:[0-9a-f]{64}")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class NotThere(ImageError):
    """The registry has nothing of that name."""


class Registry:
    """`url` of a mirror that has the images of every registry under their paths; without it each name says where
    (`ghcr.io/…`, Docker Hub where nothing is said). `user`: name and password, for that registry and who signs its
    tokens. Close it.
    """

    def __init__(
        self,
        url: str = "",
        *,
        user: tuple[str, str] | None = None,
        plain_http: bool = False,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if url:
            _need_safe(url, plain_http)
        self._url, self._user, self._plain = url.rstrip("/"), user, plain_http
        self._http = httpx.Client(
            headers=bounded_read.CODINGS, timeout=httpx.Timeout(60, connect=20), transport=transport
        )
        self._tokens: dict[str, str] = {}

    def close(self) -> None:
        self._http.close()

    def pull(self, name: str, layout: ImageLayout) -> BlobDescriptor:
        """The image whole, every platform of it, into the layout. ImageError says what is missing or wrong."""
        base, repository, reference = self._place(name)
        top = self._manifest(base, repository, reference, layout)
        seen = {top.digest}
        waiting = [top]
        while waiting:
            one = waiting.pop()
            for part in parts_of(one, layout.read(one)):
                if part.digest in seen:
                    continue
                seen.add(part.digest)
                if len(seen) > MAX_BLOBS:
                    raise ImageError(f"{name} has more than {MAX_BLOBS} parts")
                if part.is_index or part.is_manifest:
                    waiting.append(part)
                    self._manifest(base, repository, part.digest, layout)
                elif not layout.has(part):
                    with self._get(f"{base}/v2/{repository}/blobs/{part.digest}") as answer:
                        layout.add(part, bounded_read.parts_of(answer))
        layout.name(name, top)
        return top

    def pull_signatures(self, name: str, image: BlobDescriptor, layout: ImageLayout) -> bool:
        """Whether the image has signatures by cosign there, which are then in the layout. ImageError."""
        base, repository, _ = self._place(name)
        tag = tag_of(image)
        try:
            top = self._manifest(base, repository, tag, layout)
        except NotThere:
            return False
        for part in parts_of(top, layout.read(top)):
            if part.size > MAX_MANIFEST:
                raise ImageError(f"{name}: {tag} holds more than signatures")
            if not layout.has(part):
                with self._get(f"{base}/v2/{repository}/blobs/{part.digest}") as answer:
                    layout.add(part, bounded_read.parts_of(answer))
        layout.name(tag, top)
        return True

    def push_signatures(self, name: str, layout: ImageLayout) -> None:
        """The image's signatures, where the layout has them, under the tag at which cosign looks."""
        tag = tag_of(layout.names()[name])
        if (top := layout.names().get(tag)) is not None:
            base, repository, _ = self._place(name)
            self._push(base, repository, tag, top, layout)

    def push(self, name: str, layout: ImageLayout) -> str:
        """The image of that name from the layout to this registry: `REPOSITORY@DIGEST`. What is there already is not
        sent. ImageError.
        """
        base, repository, reference = self._place(name)
        top = layout.names()[name]
        self._push(base, repository, reference, top, layout)
        return f"{urlsplit(base).netloc}/{repository}@{top.digest}"

    def _push(self, base: str, repository: str, reference: str, top: BlobDescriptor, layout: ImageLayout) -> None:
        for one in layout.walk(top):
            if one.is_index or one.is_manifest:
                target = f"{base}/v2/{repository}/manifests/{reference if one == top else one.digest}"
                headers = {"Content-Type": one.media_type}
                self._need(self._send("PUT", target, content=layout.read(one), headers=headers), 201)
            elif self._send("HEAD", f"{base}/v2/{repository}/blobs/{one.digest}").status_code != 200:
                upload = self._need(self._send("POST", f"{base}/v2/{repository}/blobs/uploads/"), 202)
                target = urljoin(f"{base}/v2/", upload.headers.get("location", ""))
                if urlsplit(target)[:2] != urlsplit(base)[:2]:
                    raise ImageError(f"{base} wants the bytes at another server ({urlsplit(target).netloc})")
                target += ("&" if "?" in target else "?") + f"digest={one.digest}"
                headers = {"Content-Type": "application/octet-stream", "Content-Length": str(one.size)}
                with layout.blob(one).open("rb") as source:
                    answer = self._send("PUT", target, content=chunks_of(source), headers=headers)
                self._need(answer, 201)

    def _place(self, name: str) -> tuple[str, str, str]:
        """(base URL, repository, tag or digest)."""
        host, _, rest = full_name(name.removeprefix("docker://")).partition("/")
        path, at, digest = rest.partition("@")
        repository, _, tag = path.partition(":")
        reference = digest if at else tag
        if not _REPOSITORY.fullmatch(repository) or not _REFERENCE.fullmatch(reference):
            raise ImageError(f"{name[:200]!r} is no name of an image: HOST/PATH:TAG or HOST/PATH@sha256:…")
        if self._url:
            return self._url, repository.removeprefix("library/"), reference
        base = "https://registry-1.docker.io" if host == "docker.io" else f"https://{host}"
        return base, repository, reference

    def _manifest(self, base: str, repository: str, reference: str, layout: ImageLayout) -> BlobDescriptor:
        with self._get(f"{base}/v2/{repository}/manifests/{reference}", {"Accept": ACCEPT}) as answer:
            body = b"".join(_bounded(bounded_read.parts_of(answer), MAX_MANIFEST, reference))
            kind = answer.headers.get("content-type", "").partition(";")[0].strip()
        digest = digest_of(body)
        if DIGEST.fullmatch(reference) and digest != reference:
            raise ImageError(f"{base} gave for {reference} something of the digest {digest}: it was not kept")
        found = BlobDescriptor.model_validate({"mediaType": kind, "digest": digest, "size": len(body)})
        if not (found.is_index or found.is_manifest):
            raise ImageError(f"{base}: {repository}:{reference} is {kind[:80]!r}, no image of OCI or Docker")
        if not layout.has(found):
            layout.add(found, [body])
        return found

    @contextmanager
    def _get(self, url: str, headers: dict[str, str] | None = None) -> Iterator[httpx.Response]:
        try:
            request = self._http.build_request("GET", url, headers={**(headers or {}), **self._authorization(url)})
            answer = self._http.send(request, stream=True)
            if answer.status_code == 401:
                answer.read()
                self._sign_in(url, answer)
                request = self._http.build_request("GET", url, headers={**(headers or {}), **self._authorization(url)})
                answer = self._http.send(request, stream=True)
            for _ in range(5):  # blobs often lie elsewhere: no token goes there, and the digest holds what comes
                if not answer.has_redirect_location:
                    break
                answer.close()
                url = urljoin(url, answer.headers["location"])
                _need_safe(url, self._plain)
                answer = self._http.send(self._http.build_request("GET", url), stream=True)
            try:
                if answer.status_code != 200:
                    raise _refusal(answer)
                yield answer
            finally:
                answer.close()
        except httpx.HTTPError as error:
            raise ImageError(f"{_plain(url)} cannot be reached: {type(error).__name__}") from None

    def _send(
        self,
        method: str,
        url: str,
        *,
        content: bytes | Iterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        try:
            given = {**(headers or {}), **self._authorization(url)}
            answer = self._http.request(method, url, content=content, headers=given)
            if answer.status_code == 401 and (content is None or isinstance(content, bytes)):
                self._sign_in(url, answer)
                given = {**(headers or {}), **self._authorization(url)}
                answer = self._http.request(method, url, content=content, headers=given)
        except httpx.HTTPError as error:
            raise ImageError(f"{_plain(url)} cannot be reached: {type(error).__name__}") from None
        return answer

    def _need(self, answer: httpx.Response, status: int) -> httpx.Response:
        if answer.status_code != status:
            raise _refusal(answer)
        return answer

    def _authorization(self, url: str) -> dict[str, str]:
        found = self._tokens.get(urlsplit(url).netloc)
        return {"Authorization": found} if found else {}

    def _sign_in(self, url: str, answer: httpx.Response) -> None:
        """As the registry's challenge says: a token for this repository, or the name and password themselves."""
        kind, _, rest = answer.headers.get("www-authenticate", "").partition(" ")
        challenge = dict(_CHALLENGE.findall(rest))
        basic = httpx.BasicAuth(*self._user) if self._user else None
        if kind.lower() == "basic" and basic is not None:
            request = next(basic.auth_flow(httpx.Request("GET", url)))
            self._tokens[urlsplit(url).netloc] = request.headers["Authorization"]
        elif kind.lower() == "bearer" and "realm" in challenge:
            _need_safe(challenge["realm"], self._plain)
            query = {name: challenge[name] for name in ("service", "scope") if name in challenge}
            given = self._http.get(challenge["realm"], params=query, auth=basic)
            try:
                found = given.json()
                token = found.get("token") or found["access_token"]
            except (ValueError, KeyError, AttributeError):
                raise _refusal(given) from None
            self._tokens[urlsplit(url).netloc] = f"Bearer {token}"
        else:
            raise _refusal(answer)


def _need_safe(url: str, plain_http: bool) -> None:
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ImageError("the registry's URL holds a password: use --credentials FILE")
    if not (parts.scheme == "https" or (parts.scheme == "http" and (plain_http or parts.hostname in LOOPBACK))):
        raise ImageError(f"{_plain(url)} is not https: add --plain-http where the way is safe by itself")


def _bounded(chunks: Iterator[bytes], limit: int, what: str) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise ImageError(f"{what} is longer than the {limit} bytes that a manifest may have")
        yield chunk


def _refusal(answer: httpx.Response) -> ImageError:
    where = _plain(str(answer.request.url))
    if answer.status_code in (401, 403):
        return ImageError(f"{where} lets nobody in like that ({answer.status_code}): give --credentials FILE")
    if answer.status_code == 404:
        return NotThere(f"{where} is not there (404): look at the image's name and --registry")
    return ImageError(f"{where} answered {answer.status_code}")


def _plain(url: str) -> str:
    """Without a query, which may hold a signature."""
    return url.partition("?")[0]
