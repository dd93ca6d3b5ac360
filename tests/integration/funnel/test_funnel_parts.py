"""What stands between Funnel and a node, without Funnel: the docker-style driver, and the framing that keeps its
Crypt4GH reader from losing data.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from crypt4gh import lib as crypt4gh_lib
from crypt4gh.keys import c4gh

from gdi.funnel import crypt4gh_proxy
from gdi.funnel.crypt4gh import MAX_HEADER, Key
from gdi.local_federation.tes import funnel
from gdi.runner.sandbox.docker import DriverImage, write_driver
from tests.support.tes_kit import encrypt, wait_for

SEGMENT = crypt4gh_proxy.SEGMENT


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fp-"))  # short: a unix socket's path has 107 bytes
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def call(driver: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "AWS_SECRET_ACCESS_KEY": "planted-4711"}
    return subprocess.run(
        [str(driver), *arguments], capture_output=True, text=True, timeout=240, env=environment, check=False
    )


def test_the_driver_runs_what_funnel_asks_without_network_or_environment(home: Path) -> None:
    (home / "in").write_text("input")
    (home / "out").mkdir()
    driver = write_driver(home / "driver", [DriverImage("gdi-task:*")])
    volumes = ["--volume", f"{home}/in:/gdi/out/in:ro", "--volume", f"{home}/out:/gdi/out:rw"]
    script = "cat in > copy; echo x > in; env; cat /proc/*/environ; tail -n +3 /proc/net/dev; exit 42"
    done = call(
        driver,
        "run",
        "-i",
        "--read-only",
        "--rm",
        "--env",
        "A=b=c",
        "--name",
        "n-0",
        "--workdir",
        "/gdi/out",
        *volumes,
        "gdi-task:1",
        "sh",
        "-c",
        script,
    )
    assert done.returncode == 42 and (home / "out/copy").read_text() == "input" and (home / "in").read_text() == "input"
    assert "A=b=c" in done.stdout and "planted" not in done.stdout and "eth" not in done.stdout


def test_the_driver_refuses_other_images_and_names(home: Path) -> None:
    driver = write_driver(home / "driver", [DriverImage("gdi-task:*")])
    for arguments in (
        ["pull", "evil:1"],
        ["run", "evil:1", "true"],
        ["run", "--name", "../x", "gdi-task:1", "true"],
        ["run"],
    ):
        assert call(driver, *arguments).returncode == 125, arguments
    assert call(driver, "pull", "gdi-task:1").returncode == 0
    with pytest.raises(ValueError, match="white space"):
        write_driver(home / "a b", [])


def test_the_driver_stops_a_sandbox_by_its_name(home: Path) -> None:
    driver = write_driver(home / "driver", [DriverImage("*")])
    child = subprocess.Popen([str(driver), "run", "--name", "t-0", "img", "sleep", "60"])
    wait_for("it is named", lambda: (home / "driver.running/t-0").exists())
    assert call(driver, "rm", "-f", "t-0").returncode == 0
    assert child.wait(120) == -9
    assert call(driver, "rm", "-f", "t-0").returncode == 0, "once more does no harm"


def test_the_driver_mounts_nothing_but_the_tasks_own_folder(home: Path) -> None:
    tasks = home / "work"
    for task in ("t1", "t2"):
        (tasks / task / "gdi").mkdir(parents=True)
    (tasks / "t1/gdi/link").symlink_to(home)
    driver = write_driver(home / "driver", [DriverImage("*")], tasks=tasks)
    for host, inside in (
        (home, "/gdi"),
        (tasks / "t2/gdi", "/gdi"),
        (tasks, "/t1"),
        (tasks / "t1/gdi/link", "/gdi/link"),
        (f"{tasks}/t1/../t2/gdi", "/gdi"),
    ):
        done = call(driver, "run", "--name", "t1-0", "--volume", f"{host}:{inside}:ro", "img", "true")
        assert done.returncode == 125 and "own folder" in done.stderr, (host, done.stderr)
    assert call(driver, "run", "--name", "t1-0", "--volume", f"{tasks}/t1/gdi:/gdi:ro", "img", "true").returncode == 0


def test_what_a_task_leaves_are_plain_files_of_its_own(home: Path) -> None:
    root = home / "work/t1"
    (root / "gdi").mkdir(parents=True)
    (home / "secret").write_text("PRIVATE KEY")
    driver = write_driver(home / "driver", [DriverImage("*")], tasks=home / "work")
    script = f"""cd /gdi; echo kept > real; ln -s /gdi/real absolute; mkdir -p d/e; ln -s ../../real d/e/up
        ln -s loop loop; ln -s /gdi/d folder
        ln -s {home}/secret out; ln -s ../../../../../../../../..{home}/secret climb; mkfifo pipe; ln -s none dangling
        (trap '' TERM HUP; while :; do ln -sf {home}/secret late; done) & exit 3"""
    done = call(driver, "run", "--name", "t1-0", "--volume", f"{root}/gdi:/gdi:rw", "img", "sh", "-c", script)
    assert done.returncode == 3
    left = {str(p.relative_to(root / "gdi")): p for p in (root / "gdi").rglob("*")}
    assert all(p.is_dir() or (p.is_file() and not p.is_symlink()) for p in left.values()), left
    assert {n for n, p in left.items() if p.is_file()} == {"real", "absolute", "d/e/up"}
    assert {p.read_text() for p in left.values() if p.is_file()} == {"kept\n"}


def test_no_more_tasks_run_at_once_than_there_are_slots(home: Path) -> None:
    driver = write_driver(home / "driver", [DriverImage("*")], slots=1)
    (home / "shared").mkdir()
    volume = ["--volume", f"{home}/shared:/gdi:rw"]
    first = subprocess.Popen(
        [
            str(driver),
            "run",
            "--name",
            "a-0",
            *volume,
            "img",
            "sh",
            "-c",
            "touch /gdi/a; while [ ! -e /gdi/go ]; do sleep 0.05; done",
        ]
    )
    wait_for("the first runs", lambda: (home / "shared/a").exists())
    second = subprocess.Popen([str(driver), "run", "--name", "b-0", *volume, "img", "touch", "/gdi/b"])
    wait_for("the second waits", lambda: (home / "driver.running/b-0").exists())
    third = subprocess.Popen([str(driver), "run", "--name", "c-0", *volume, "img", "touch", "/gdi/c"])
    wait_for("the third waits", lambda: (home / "driver.running/c-0").exists())
    assert call(driver, "rm", "-f", "c-0").returncode == 0 and third.wait(120) == -9, "one that waits can be stopped"
    assert not (home / "shared/b").exists()
    (home / "shared/go").touch()
    assert first.wait(120) == 0 and second.wait(20) == 0 and (home / "shared/b").exists()


def test_a_value_that_would_break_out_of_funnels_configuration_is_refused(home: Path) -> None:
    values = dict.fromkeys(
        (
            "issuer",
            "client_id",
            "client_secret",
            "audience",
            "user",
            "s3_endpoint",
            "s3_access",
            "s3_secret",
            "sda_url",
        ),
        "x",
    )
    settings = funnel.FunnelSettings(**values, password='x", Admin: true}')
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
    front = await crypt4gh_proxy.serve(0, home / "s")
    yield source, front.sockets[0].getsockname()[1]
    for server in (front, behind):
        await crypt4gh_proxy.stop(server)


async def ask(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(
        b"GET /s3-encrypted/DS1/a%20b.c4gh HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nClient-Public-Key:"
        b" k\r\n\r\n"
    )
    return reader, writer, await reader.readuntil(b"\r\n\r\n")


def file_of(size: int, home: Path) -> bytes:
    c4gh.generate(str(home / "sec"), str(home / "pub"), None, None)
    return encrypt(os.urandom(size), base64.b64encode((home / "pub").read_bytes()).decode())


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 1_000_000])
async def test_header_and_segments_are_a_chunk_each_and_the_end_waits_until_the_last_is_taken(
    served: tuple[Source, int], home: Path, size: int
) -> None:
    source, port = served
    body = file_of(size, home)
    source.pieces = [
        f'HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nETag: "e"\r\n\r\n'.encode(),
        *(body[i : i + 1000] for i in range(0, len(body), 1000)),
    ]
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
        await asyncio.sleep(0.5)  # all is most likely in the kernel's buffers by now; the promise holds either way
        client.setblocking(False)
        got = b""
        while len(got) < len(body):
            piece = await loop.sock_recv(client, 4096)
            assert b"\r\n0\r\n" not in piece or len(got) + len(piece) > len(body), (
                "the end came with data that was not yet taken"
            )
            got += piece
        rest = await asyncio.wait_for(loop.sock_recv(client, 4096), 60)
        assert (got + rest).endswith(b"\r\n0\r\n\r\n") and rest


@pytest.mark.parametrize("cut", [12, 40, 130, 70_000])
async def test_a_source_that_ends_too_early_never_looks_like_a_whole_file(
    served: tuple[Source, int], home: Path, cut: int
) -> None:
    source, port = served
    body = file_of(300_000, home)
    source.pieces = [f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode(), body[:cut]]
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.TransportError):  # the terminating chunk is missing
            await client.get(f"http://127.0.0.1:{port}/s3-encrypted/D/x.c4gh")


async def test_with_the_nodes_key_every_segment_is_opened_and_written_anew(home: Path) -> None:
    """What Funnel would read on over, disclose or panic at never reaches it."""
    body, source = file_of(300_000, home), Source()
    behind = await source.start(home / "s")
    front = await crypt4gh_proxy.serve(0, home / "s", Key.load(home / "sec"))
    url = f"http://127.0.0.1:{front.sockets[0].getsockname()[1]}/s3-encrypted/D/x.c4gh"
    damaged = bytearray(body)
    damaged[200 + SEGMENT] ^= 1
    async with httpx.AsyncClient(trust_env=False) as client:
        for data, good in ((body, True), (bytes(damaged), False), (body + bytes(5), False), (body[:-9], False)):
            source.pieces = [f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode(), data]
            if not good:
                with pytest.raises(httpx.TransportError):  # the terminating chunk is missing
                    await client.get(url)
                continue
            anew, plain = (await client.get(url)).content, [io.BytesIO(), io.BytesIO()]
            secret = Key.load(home / "sec").secret.private_bytes_raw()
            for one, out in zip((body, anew), plain, strict=True):
                crypt4gh_lib.decrypt([(0, secret, None)], io.BytesIO(one), out)
            assert anew != body and len(anew) == len(body) and plain[0].getvalue() == plain[1].getvalue()
    for server in (front, behind):
        await crypt4gh_proxy.stop(server)


async def test_a_denial_passes_as_it_is(served: tuple[Source, int]) -> None:
    source, port = served
    source.pieces = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nAccessDenied"]
    reader, _, head = await ask(port)
    assert b"200" in head and b"text/plain" in head and await reader.read() == b"AccessDenied"


@pytest.mark.parametrize("status", [401, 404, 500, 503])
async def test_an_error_of_the_gateway_reaches_funnel_as_a_cut_connection(
    served: tuple[Source, int], status: int
) -> None:
    source, port = served
    source.pieces = [f"HTTP/1.1 {status} No\r\nContent-Length: 2\r\n\r\nno".encode()]
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(f"http://127.0.0.1:{port}/s3/D/x.txt")


async def test_what_is_no_crypt4gh_file_comes_whole_or_not_at_all(served: tuple[Source, int]) -> None:
    source, port = served
    async with httpx.AsyncClient(trust_env=False) as client:
        for size, whole in ((MAX_HEADER, True), (MAX_HEADER + 9, False)):
            source.pieces = [f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode(), b"x" * size]
            if whole:
                assert len((await client.get(f"http://127.0.0.1:{port}/s3/D/x.txt")).content) > size - 9
            else:
                with pytest.raises(httpx.TransportError):
                    await client.get(f"http://127.0.0.1:{port}/s3/D/x.txt")


async def test_a_gateway_that_restarts_is_waited_for(home: Path) -> None:
    front = await crypt4gh_proxy.serve(0, home / "s")
    async with httpx.AsyncClient(trust_env=False, timeout=120) as client:
        asking = asyncio.create_task(client.get(f"http://127.0.0.1:{front.sockets[0].getsockname()[1]}/s3/D/x.txt"))
        await asyncio.sleep(0.3)  # it has most likely asked in vain by now; the promise holds either way
        assert not asking.done()
        source = Source()
        source.pieces = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere"]
        behind = await source.start(home / "s")
        assert (await asking).text == "there"
    for server in (front, behind):
        await crypt4gh_proxy.stop(server)
