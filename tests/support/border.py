"""A node behind a border: a network namespace of the node, whose only neighbour is a namespace in which one program
listens, on port 443, and which forwards nothing. `python -m tests.support.border LISTEN TARGET [CERTIFICATE KEY]` is
that program: HOST:PORT or a unix socket's path on either side, TLS where it has a certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.debian import program

BROKER, KEYS, NODE = "10.213.7.1", "10.213.7.3", "10.213.7.2"
ROOT = Path(__file__).parents[2]


@dataclass
class Border:
    """`node` and `edge` are namespaces. `run` starts a program in one of them, `ask` waits for what it prints."""

    ip: str
    node: str = f"gdi-node-{os.getpid()}"
    edge: str = f"gdi-edge-{os.getpid()}"
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def within(self, namespace: str) -> list[str]:
        """What goes before a program, so that it runs there."""
        return [self.ip, "netns", "exec", namespace]

    def run(self, namespace: str | None, *arguments: str) -> subprocess.Popen[bytes]:
        """`python -m ARGUMENTS` there (None: here), until the end."""
        before = [] if namespace is None else self.within(namespace)
        made = subprocess.Popen([*before, sys.executable, "-m", *arguments], cwd=ROOT, stdin=subprocess.DEVNULL)
        self.started.append(made)
        return made

    def ask(self, namespace: str, code: str) -> str:
        """What a program in that namespace prints."""
        done = subprocess.run(
            [*self.within(namespace), sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def reached(self, places: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """Those that a program in the node's namespace can connect to, of TCP."""
        code = (
            "import socket, sys, json\n"
            f"places = {places!r}\nfound = []\n"
            "for host, port in places:\n"
            "    with socket.socket() as s:\n"
            "        s.settimeout(2)\n"
            "        if s.connect_ex((host, port)) == 0: found.append((host, port))\n"
            "print(json.dumps(found))"
        )
        return [(str(host), int(port)) for host, port in json.loads(self.ask(self.node, code))]

    def listeners(self) -> list[str]:
        """Addresses on which anything of the node's namespace listens (TCP) or is bound (UDP), but for the loopback."""
        code = (
            "found = []\n"
            "for name in ('tcp', 'tcp6', 'udp', 'udp6'):\n"
            "    for line in open(f'/proc/net/{name}').read().splitlines()[1:]:\n"
            "        local, state = line.split()[1], line.split()[3]\n"
            "        own = local.startswith(('0100007F:', '00000000000000000000000001000000:'))\n"
            "        if not own and (state == '0A' or name.startswith('udp')): found.append(name + ' ' + local)\n"
            "print('\\n'.join(found))"
        )
        return self.ask(self.node, code).strip().splitlines()

    def call(self, *arguments: str) -> None:
        done = subprocess.run([self.ip, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait(60)
        for namespace in (self.node, self.edge):
            subprocess.run([self.ip, "netns", "del", namespace], capture_output=True, timeout=60)


@contextlib.contextmanager
def border() -> Iterator[Border]:
    """Needs root."""
    assert os.geteuid() == 0, "network namespaces need root: run this target as root"
    made = Border(str(program("iproute2")))
    try:
        for namespace in (made.node, made.edge):
            made.call("netns", "add", namespace)
            made.call("-n", namespace, "link", "set", "lo", "up")
        pair = ("link", "add", "out", "netns", made.node, "type", "veth", "peer", "name", "in", "netns", made.edge)
        made.call(*pair)
        made.call("-n", made.node, "addr", "add", f"{NODE}/29", "dev", "out")
        for address in (BROKER, KEYS):
            made.call("-n", made.edge, "addr", "add", f"{address}/29", "dev", "in")
        made.call("-n", made.node, "link", "set", "out", "up")
        made.call("-n", made.edge, "link", "set", "in", "up")
        made.call("-n", made.node, "route", "add", "default", "via", BROKER)
        yield made
    finally:
        made.close()


async def relay(listen: str, target: str, context: ssl.SSLContext | None) -> None:
    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await (
                asyncio.open_unix_connection(target)
                if target.startswith("/")
                else asyncio.open_connection(*_place(target))
            )
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer), return_exceptions=True)

    if listen.startswith("/"):
        server = await asyncio.start_unix_server(joined, listen)
    else:
        server = await asyncio.start_server(joined, *_place(listen), ssl=context)
    await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(64 * 1024):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.close()


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    tls = None
    if len(sys.argv) > 3:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[3], sys.argv[4])
    asyncio.run(relay(sys.argv[1], sys.argv[2], tls))
