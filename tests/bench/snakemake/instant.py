"""A node that answers at once, in memory: broker, gateway and TES in one process of its own, so that what a benchmark
measures is the other side.

`python instant.py PORT_FILE [--hold] [--seconds S]`: tasks are COMPLETE when created, after S seconds, or never
(`--hold`). `GET /admin/stats` counts requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

TES = "/ga4gh/tes/v1/tasks"


class Node:
    def __init__(self, hold: bool, seconds: float) -> None:
        self.hold, self.seconds = hold, seconds
        self.tasks: dict[str, dict[str, Any]] = {}
        self.order: list[str] = []
        self.files: dict[str, tuple[int, int]] = {}
        self.counts: Counter[str] = Counter()
        self.rounds = 0  # lists begun: pages without a token

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, bytes, str]:
        """(status, body, extra header lines)."""
        if path == "/admin/stats":
            return (
                200,
                json.dumps({"counts": self.counts, "rounds": self.rounds, "tasks": len(self.tasks)}).encode(),
                "",
            )
        kind = "tasks" if path.startswith(TES) else path.split("/")[1]
        kind = "list" if path == TES and method == "GET" else kind
        self.counts[f"{method} {kind}"] += 1
        if path.endswith("/tokens"):
            return (
                200,
                json.dumps({"token": "t", "token_type": "Bearer", "expires_at": time.time() + 3600}).encode(),
                "",
            )
        if path.endswith("/events"):
            return 204, b"", ""
        if path == TES:
            return self.create(json.loads(body)) if method == "POST" else self.list(query)
        if path.startswith(TES):
            return self.one(path[len(TES) + 1 :])
        if path.startswith("/workspace/"):
            return self.file(method, unquote(path).split("/", 3), query)
        return 404, b"{}", ""

    def state(self, task: dict[str, Any]) -> str:
        if task["state"] == "QUEUED" and not self.hold and time.monotonic() >= task["due"]:
            task["state"] = "COMPLETE"
            for output in task["outputs"]:
                self.files[output["url"].split("/", 3)[3]] = (1, int(time.time()))
        return str(task["state"])

    def create(self, task: dict[str, Any]) -> tuple[int, bytes, str]:
        identifier = f"t{len(self.tasks)}"
        self.tasks[identifier] = {
            "id": identifier,
            "state": "QUEUED",
            "due": time.monotonic() + self.seconds,
            "tags": task["tags"],
            "outputs": task["outputs"],
        }
        self.order.append(identifier)
        return 200, json.dumps({"id": identifier}).encode(), ""

    def list(self, query: dict[str, list[str]]) -> tuple[int, bytes, str]:
        size, end = int(query["page_size"][0]), int(query.get("page_token", [str(len(self.order))])[0])
        ids = self.order[max(0, end - size) : end][::-1]
        self.rounds += "page_token" not in query
        full = query.get("view", ["MINIMAL"])[0] != "MINIMAL"
        tasks = []
        for identifier in ids:
            task = self.tasks[identifier]
            tasks.append(
                {
                    "id": identifier,
                    "state": self.state(task),
                    **({"tags": task["tags"], "creation_time": "2026-01-01T00:00:00Z"} if full else {}),
                }
            )
        more = {"next_page_token": str(end - size)} if end - size > 0 else {}
        return 200, json.dumps({"tasks": tasks, **more}).encode(), ""

    def one(self, rest: str) -> tuple[int, bytes, str]:
        task = self.tasks.get(rest.removesuffix(":cancel"))
        if task is None:
            return 404, b"{}", ""
        if rest.endswith(":cancel"):
            task["state"] = "CANCELED" if self.state(task) == "QUEUED" else task["state"]
            return 200, b"{}", ""
        outputs = [{"url": o["url"], "path": o["path"], "size_bytes": "1"} for o in task["outputs"]]
        return (
            200,
            json.dumps(
                {
                    "id": task["id"],
                    "state": self.state(task),
                    "tags": task["tags"],
                    "logs": [{"logs": [], "outputs": outputs}],
                }
            ).encode(),
            "",
        )

    def file(self, method: str, parts: list[str], query: dict[str, list[str]]) -> tuple[int, bytes, str]:
        for task in self.tasks.values():
            if task["state"] == "QUEUED":
                self.state(task)
        if len(parts) == 3:
            start = query.get("page_token", [""])[0]
            rows = [(p, *v) for p, v in sorted(self.files.items()) if p > start]
            more = rows[999][0] if len(rows) > 1000 else ""
            return (
                200,
                json.dumps(
                    {"files": [{"path": p, "size": s, "mtime": m} for p, s, m in rows[:1000]], "next_page_token": more}
                ).encode(),
                "",
            )
        if method == "PUT":
            return 201, b"{}", ""
        known = self.files.get(parts[3])
        if known is None:
            return 404, b"", ""
        if method == "DELETE":
            del self.files[parts[3]]
            return 204, b"", ""
        return 200, b"", f"Last-Modified: {formatdate(known[1], usegmt=True)}\r\n"


async def serve(port_file: Path, node: Node) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.split("\r\n")
                method, target, _ = first.split(" ")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                path, _, query = target.partition("?")
                status, answer, extra = node.answer(method, path, parse_qs(query), body)
                length = "1" if method == "HEAD" and status == 200 else str(len(answer))
                date = formatdate(usegmt=True)
                if status == 404:  # as a gateway says it: of a page nobody believes that
                    extra += "Content-Type: application/problem+json\r\n"
                writer.write(
                    f"HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nDate: {date}\r\n{extra}\r\n".encode()
                    + (b"" if method == "HEAD" else answer)
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", 0, backlog=512)
    port_file.write_text(str(server.sockets[0].getsockname()[1]))
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port_file", type=Path)
    parser.add_argument("--hold", action="store_true")
    parser.add_argument("--seconds", type=float, default=0.0)
    options = parser.parse_args()
    asyncio.run(serve(options.port_file, Node(options.hold, options.seconds)))


if __name__ == "__main__":
    main()
