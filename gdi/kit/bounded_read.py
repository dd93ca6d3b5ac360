"""Another server's answer, read only so far: one that is wrong or taken over is not to fill this process."""

from __future__ import annotations

import httpx


class TooLargeError(ValueError):
    """The answer's body is larger than it may be."""

    def __init__(self, most: int) -> None:
        super().__init__(f"the answer is larger than {most} bytes")


async def aread(answer: httpx.Response, most: int) -> bytes:
    """The body of a streamed answer. TooLargeError beyond `most` bytes, httpx.HTTPError."""
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > most:
            raise TooLargeError(most)
    return bytes(body)


def read(answer: httpx.Response, most: int) -> bytes:
    """`aread` for a client without an event loop."""
    body = bytearray()
    for part in answer.iter_bytes():
        body += part
        if len(body) > most:
            raise TooLargeError(most)
    return bytes(body)


def whole(answer: httpx.Response, body: bytes) -> httpx.Response:
    """A streamed answer with its body, as if it had been read at once."""
    headers = {"content-type": answer.headers.get("content-type", "")}
    return httpx.Response(answer.status_code, headers=headers, content=body, request=answer.request)
