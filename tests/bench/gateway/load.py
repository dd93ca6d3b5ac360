"""What asks a server, in a process of its own: `python -m tests.bench.gateway.load`, an order as JSON on its standard
input, figures as JSON on its standard output.

`read`: the URLs all at once, to their end: {"seconds", "bytes"}. `first`: each of the URLs, one after the other, until
its first byte: {"times"}. `post`: the bodies, `width` at once: {"seconds", "ids"}. `get`: all pages of a list, `times`
times: {"times", "count"}.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import aiohttp

BUFFER = 1024 * 1024


def ordered(what: str, **order: Any) -> dict[str, Any]:
    """What a process of this module answers."""
    argv = [sys.executable, "-m", "tests.bench.gateway.load"]
    done = subprocess.run(argv, input=json.dumps({"what": what, **order}), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def connected(url: str, uds: str) -> socket.socket:
    if uds:
        made = socket.socket(socket.AF_UNIX)
        made.connect(uds)
        return made
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 80))


def request(url: str, headers: dict[str, str]) -> bytes:
    parts = urlsplit(url)
    lines = [f"GET {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close"]
    return ("\r\n".join([*lines, *(f"{k}: {v}" for k, v in headers.items())]) + "\r\n\r\n").encode()


def read_one(order: dict[str, Any], url: str, buffer: bytearray, *, first: bool) -> int:
    """Bytes of the body that came; with `first`, ends at the first."""
    with connected(url, order.get("uds", "")) as connection:
        connection.sendall(request(url, order["headers"]))
        head = b""
        while b"\r\n\r\n" not in head or (first and head.endswith(b"\r\n\r\n")):
            got = connection.recv(65536)
            if not got:
                break
            head += got
        status, _, body = head.partition(b"\r\n\r\n")
        if b" 200 " not in status.split(b"\r\n")[0]:
            raise RuntimeError(f"{url}: {status[:200]!r} {body[:200]!r}")
        total = len(body)
        while not first and (size := connection.recv_into(buffer)):
            total += size
        return total


def read(order: dict[str, Any]) -> dict[str, Any]:
    totals: list[int] = []
    faults: list[str] = []

    def one(url: str) -> None:
        try:
            totals.append(read_one(order, url, bytearray(BUFFER), first=False))
        except Exception as error:
            faults.append(repr(error))

    began = time.perf_counter()
    threads = [threading.Thread(target=one, args=(url,)) for url in order["urls"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise RuntimeError(faults[0])
    return {"seconds": time.perf_counter() - began, "bytes": sum(totals)}


def first(order: dict[str, Any]) -> dict[str, Any]:
    times = []
    for url in order["urls"]:
        began = time.perf_counter()
        read_one(order, url, bytearray(), first=True)
        times.append(time.perf_counter() - began)
    return {"times": times}


async def post(order: dict[str, Any]) -> dict[str, Any]:
    waiting = list(reversed(order["bodies"]))
    ids: list[str] = []
    async with aiohttp.ClientSession(headers=order["headers"]) as session:

        async def worker() -> None:
            while waiting:
                async with session.post(order["url"], json=waiting.pop()) as answer:
                    if answer.status != 200:
                        raise RuntimeError(f"{answer.status} {await answer.text()}")
                    ids.append((await answer.json())["id"])

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(order["width"])))
        return {"seconds": time.perf_counter() - began, "ids": ids}


async def get(order: dict[str, Any]) -> dict[str, Any]:
    """Pages of a list until its end, as often as `times`; median seconds of the whole list, and its length."""
    took, count = [], 0
    async with aiohttp.ClientSession(headers=order["headers"]) as session:
        for _ in range(order["times"]):
            began, token, count = time.perf_counter(), "", 0
            while True:
                query = {**order["query"], **({"page_token": token} if token else {})}
                async with session.get(order["url"], params=query) as answer:
                    page = json.loads(await answer.read())
                count += len(page.get("tasks", []))
                token = page.get("next_page_token") or ""
                if not token:
                    break
            took.append(time.perf_counter() - began)
    return {"times": took, "count": count}


def main() -> None:
    order = json.load(sys.stdin)
    what = order["what"]
    answer = {"read": read, "first": first}[what](order) if what in ("read", "first") else None
    if answer is None:
        answer = asyncio.run({"post": post, "get": get}[what](order))
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
