"""A proxy in front of a TES that does to its answers what networks and servers do: away, 5xx, slow, cut, repeated,
late, forgotten. s3_faults.py has the one in front of an S3.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

Wanted = Callable[[str, str], bool]  # (method, path with query)
LONGEST = 60.0  # seconds that a slow answer lasts
REPEAT = "again-and-again"  # a page token that leads to the first page
HOP = {"connection", "transfer-encoding", "content-length", "content-encoding", "keep-alive", "date", "server"}


def any_request(_: str, __: str) -> bool:
    return True


def creations(method: str, path: str) -> bool:
    return method == "POST" and path.partition("?")[0].endswith("/tasks")


def lists(method: str, path: str) -> bool:
    return method == "GET" and path.partition("?")[0].endswith("/tasks")


@dataclass
class Fault:
    """`kind` for the next `times` requests that are `wanted`.

    away: the connection is closed at once · status: answered with `value`, not passed on · status-after: passed on,
    then answered with `value` slow: passed on after `value` seconds · cut: passed on, half the answer · lost: passed
    on, no answer · drip: passed on, a byte every `value` seconds · unsized: passed on, half the answer and no length ·
    truncate: a whole answer whose content is half · repeat: the list's token leads back to its first page ·
    lag: lists leave out what was created in the last `value` seconds
    """

    kind: str
    times: int = 1
    value: float = 503
    wanted: Wanted = any_request

    def takes(self, method: str, path: str) -> bool:
        if self.times <= 0 or not self.wanted(method, path):
            return False
        self.times -= 1
        return True


@dataclass
class Proxy:
    """`with Proxy(tes_url) as proxy:` listens at `proxy.url`. Put faults into `proxy.faults` at any time; ids in
    `proxy.forgotten` are unknown to its TES.
    """

    upstream: str
    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    forgotten: set[str] = field(default_factory=set)
    born: dict[str, float] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    creations: list[tuple[str, str]] = field(default_factory=list)  # (gdi-job, gdi-try) of each that reached the TES

    def __enter__(self) -> Proxy:
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()

        async def serve() -> None:
            self._http = httpx.AsyncClient(
                base_url=self.upstream, timeout=60, trust_env=False, limits=httpx.Limits(max_connections=64)
            )
            server = await asyncio.start_server(self._client, "127.0.0.1", 0, backlog=256)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ready.set()
            async with server:
                await self._stop.wait()
            open_ones = asyncio.all_tasks() - {asyncio.current_task()}  # slow answers that nobody waits for any more
            for task in open_ones:
                task.cancel()
            await asyncio.gather(*open_ones, return_exceptions=True)
            await self._http.aclose()

        def run() -> None:
            asyncio.set_event_loop(self._loop)
            self._stop = asyncio.Event()
            self._loop.run_until_complete(serve())

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert ready.wait(120)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(120)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, httpx.HTTPError, asyncio.CancelledError):
            pass  # the client or the proxy ends
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")
        method, path, _ = first.split(" ")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.log.append((method, path))
        fault = next((f for f in self.faults if f.takes(method, path)), Fault("none"))
        if fault.kind == "away":
            return False
        if fault.kind == "status":
            refusal = b"" if method == "HEAD" else self._refusal(int(fault.value))
            writer.write(f"HTTP/1.1 {fault.value:.0f} X\r\nContent-Length: {len(refusal)}\r\n\r\n".encode() + refusal)
            return True
        if fault.kind == "slow":
            await asyncio.sleep(fault.value)
        status, kept, content = await self._pass_on(method, path, headers, body, fault)
        if fault.kind == "lost":
            return False
        if fault.kind == "status-after":
            status, content = int(fault.value), b""
        if fault.kind == "truncate":
            content = content[: len(content) // 2]
        length = "" if "content-length:" in kept or fault.kind == "unsized" else f"Content-Length: {len(content)}\r\n"
        start = f"HTTP/1.1 {status} X\r\n{length}{kept}\r\n".encode()
        if fault.kind == "drip":
            await self._drip(writer, start, content, fault.value)
            return False
        answer = start + content
        writer.write(answer[: -max(1, len(content) // 2)] if fault.kind in ("cut", "unsized") else answer)
        await writer.drain()
        return fault.kind not in ("cut", "unsized")

    def _refusal(self, status: int) -> bytes:
        return b""

    async def _drip(self, writer: asyncio.StreamWriter, start: bytes, content: bytes, pause: float) -> None:
        writer.write(start)
        end = time.monotonic() + LONGEST
        for value in content:
            writer.write(bytes([value]))
            await writer.drain()
            if time.monotonic() > end:
                return
            await asyncio.sleep(pause)

    async def _pass_on(
        self, method: str, path: str, headers: dict[str, str], body: bytes, fault: Fault
    ) -> tuple[int, str, bytes]:
        target = path.partition("?")[0]
        name = target.rpartition("/")[2].removesuffix(":cancel")
        if name in self.forgotten:
            return 404, "", b"{}"
        path = path.replace(f"&page_token={REPEAT}", "")
        sent = {k: v for k, v in headers.items() if k not in HOP | {"host", "accept-encoding"}}
        answer = await self._http.request(method, path, headers=sent, content=body)
        content = answer.content
        if creations(method, path) and answer.is_success:
            tags = json.loads(body).get("tags", {})
            self.creations.append((tags.get("gdi-job", ""), tags.get("gdi-try", "")))
            self.born[answer.json()["id"]] = time.monotonic()
        if lists(method, path) and answer.is_success:
            content = json.dumps(self._list(answer.json(), fault)).encode()
        kept = "".join(f"{k}: {v}\r\n" for k, v in answer.headers.items() if k not in HOP)
        return answer.status_code, kept, content

    def _list(self, page: dict[str, Any], fault: Fault) -> dict[str, Any]:
        hidden = set(self.forgotten)
        if fault.kind == "lag":
            hidden |= {i for i, at in self.born.items() if time.monotonic() - at < fault.value}
        page["tasks"] = [t for t in page.get("tasks") or [] if t["id"] not in hidden]
        if fault.kind == "repeat":
            page["next_page_token"] = REPEAT
        return page
