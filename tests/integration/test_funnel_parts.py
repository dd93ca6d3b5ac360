"""What stands between Funnel and a node, without Funnel: the docker-style driver, and the framing that keeps its Crypt4GH reader from losing data."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from crypt4gh.keys import c4gh
from tes_kit import encrypt, wait_for

from local_federation.sandbox.docker import DriverImage, write_driver
from local_federation.tes import funnel, reframe

SEGMENT = reframe.SEGMENT


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fp-"))  # short: a unix socket's path has 107 bytes
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def call(driver: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "AWS_SECRET_ACCESS_KEY": "planted-4711"}
    return subprocess.run([str(driver), *arguments], capture_output=True, text=True, timeout=60, env=environment, check=False)


def test_the_driver_runs_what_funnel_asks_without_network_or_environment(home: Path) -> None:
    (home / "in").write_text("input")
    (home / "out").mkdir()
    driver = write_driver(home / "driver", [DriverImage("gdi-task:*")])
    volumes = ["--volume", f"{home}/in:/gdi/out/in:ro", "--volume", f"{home}/out:/gdi/out:rw"]
    script = "cat in > copy; echo x > in; env; cat /proc/*/environ; tail -n +3 /proc/net/dev; exit 42"
    done = call(
        driver, "run", "-i", "--read-only", "--rm", "--env", "A=b=c", "--name", "n-0", "--workdir", "/gdi/out", *volumes, "gdi-task:1", "sh", "-c", script
    )
    assert done.returncode == 42 and (home / "out/copy").read_text() == "input" and (home / "in").read_text() == "input"
    assert "A=b=c" in done.stdout and "planted" not in done.stdout and "eth" not in done.stdout


def test_the_driver_refuses_other_images_and_names(home: Path) -> None:
    driver = write_driver(home / "driver", [DriverImage("gdi-task:*")])
    for arguments in (["pull", "evil:1"], ["run", "evil:1", "true"], ["run", "--name", "../x", "gdi-task:1", "true"], ["run"]):
        assert call(driver, *arguments).returncode == 125, arguments
    assert call(driver, "pull", "gdi-task:1").returncode == 0
    with pytest.raises(ValueError, match="white space"):
        write_driver(home / "a b", [])


def test_the_driver_stops_a_sandbox_by_its_name(home: Path) -> None:
    driver = write_driver(home / "driver", [DriverImage("*")])
    child = subprocess.Popen([str(driver), "run", "--name", "t-0", "img", "sleep", "60"])
    wait_for("it is named", lambda: (home / "driver.running/t-0").exists())
    assert call(driver, "rm", "-f", "t-0").returncode == 0
    assert child.wait(10) == -9
    assert call(driver, "rm", "-f", "t-0").returncode == 0, "once more does no harm"


def test_a_value_that_would_break_out_of_funnels_configuration_is_refused(home: Path) -> None:
    values = dict.fromkeys(("issuer", "client_id", "client_secret", "audience", "user", "s3_endpoint", "s3_access", "s3_secret", "sda_url"), "x")
    settings = funnel.Settings(**values, password='x", Admin: true}')
    with pytest.raises(ValueError, match="password"):
        funnel.prepare(home, Path("/bin/true"), settings, [], listen_port=1, key_files=(home, home), reach=[])


class Source:
    """An HTTP server on a unix socket that answers each request with `answer`, in pieces, and then closes."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.requests: list[bytes] = []

    async def start(self, path: Path) -> asyncio.Server:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            for piece in self.pieces:
                writer.write(piece)
                await writer.drain()
            writer.close()

        return await asyncio.start_unix_server(accept, str(path))


@pytest.fixture
async def served(home: Path) -> AsyncIterator[tuple[Source, int]]:
    source = Source()
    behind = await source.start(home / "s")
    front = await reframe.serve(0, home / "s")
    yield source, front.sockets[0].getsockname()[1]
    for server in (front, behind):
        await reframe.stop(server)


async def ask(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(b"GET /s3-encrypted/DS1/a%20b.c4gh HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nClient-Public-Key: k\r\n\r\n")
    return reader, writer, await reader.readuntil(b"\r\n\r\n")


def file_of(size: int, home: Path) -> bytes:
    c4gh.generate(str(home / "sec"), str(home / "pub"), None, None)
    return encrypt(os.urandom(size), base64.b64encode((home / "pub").read_bytes()).decode())


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 1_000_000])
async def test_header_and_segments_are_a_chunk_each_and_the_end_waits_until_the_last_is_taken(served: tuple[Source, int], home: Path, size: int) -> None:
    source, port = served
    body = file_of(size, home)
    source.pieces = [f'HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nETag: "e"\r\n\r\n'.encode(), *(body[i : i + 1000] for i in range(0, len(body), 1000))]
    reader, writer, head = await ask(port)
    assert b"200 OK" in head and b"chunked" in head and b'"e"' in head
    assert source.requests[0].startswith(b"GET /s3-encrypted/DS1/a%20b.c4gh ") and b"Bearer t" in source.requests[0]
    chunks = []
    while length := int(await reader.readline(), 16):
        chunks.append(await reader.readexactly(length))
        await reader.readexactly(2)
    writer.close()
    assert b"".join(chunks) == body
    assert {len(c) for c in chunks[1:-1]} <= {SEGMENT} and len(chunks) == 1 + -(-size // 65_536)


async def test_a_reader_that_is_slow_gets_no_end_before_it_has_read_all(served: tuple[Source, int], home: Path) -> None:
    source, port = served
    body = file_of(300_000, home)
    source.pieces = [f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode(), body]
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /s3-encrypted/D/x.c4gh HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.5)  # all is in the kernel's buffers by now, and nothing is read
        client.setblocking(False)
        got = b""
        while len(got) < len(body):
            piece = await loop.sock_recv(client, 4096)
            assert b"\r\n0\r\n" not in piece or len(got) + len(piece) > len(body), "the end came with data that was not yet taken"
            got += piece
        rest = await asyncio.wait_for(loop.sock_recv(client, 4096), 5)
        assert (got + rest).endswith(b"\r\n0\r\n\r\n") and rest


@pytest.mark.parametrize("cut", [12, 40, 130, 70_000])
async def test_a_source_that_ends_too_early_never_looks_like_a_whole_file(served: tuple[Source, int], home: Path, cut: int) -> None:
    source, port = served
    body = file_of(300_000, home)
    source.pieces = [f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode(), body[:cut]]
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.TransportError):  # the terminating chunk is missing
            await client.get(f"http://127.0.0.1:{port}/s3-encrypted/D/x.c4gh")


async def test_a_denial_passes_as_it_is(served: tuple[Source, int]) -> None:
    source, port = served
    source.pieces = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nAccessDenied"]
    reader, _, head = await ask(port)
    assert b"200" in head and b"text/plain" in head and await reader.read() == b"AccessDenied"
