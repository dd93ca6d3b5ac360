"""The real Funnel as a node's TES (GDI_FUNNEL): its configuration, and the network namespace it must live in.

Funnel listens on every interface whatever its HostName says. So it gets a namespace with a loopback only, and what it
talks to comes in and out through unix sockets: `python -m gdi.local_federation.tes.funnel SPEC` runs outside, starts
the namespace, and relays.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import yaml

from gdi.funnel import container_line, crypt4gh_proxy
from gdi.funnel.crypt4gh import Key
from gdi.kit.socket_proxy import SocketProxy, Tcp, Unix
from gdi.kit.tls import authorities
from gdi.local_federation.tes import folder
from gdi.runner.sandbox import find_bwrap
from gdi.runner.sandbox.docker import DriverImage, write_driver

log = logging.getLogger(__name__)
TEMPLATE = Path(__file__).with_name("funnel.yml")
VARIABLE = "GDI_FUNNEL"
RPC_PORT, SDA_PORT = (
    18890,
    18891,
)  # in the namespace nothing else listens, and the ports relayed into it are chosen above 20,000

WORKERS = 4  # interrupted tasks that are taken up at once


def chosen() -> Path | None:
    """The program that GDI_FUNNEL names; None where it is unset or empty, and nodes run the stand-in."""
    value = os.environ.get(VARIABLE, "")
    return Path(value).absolute() if value else None


def release(program: Path) -> str:
    """What the program says of its own version, one line; without a build's stamp also how it can be told apart.
    OSError, ValueError where it is no Funnel.
    """
    try:
        done = subprocess.run(
            [str(program), "version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            stdin=subprocess.DEVNULL,
            check=False,
            env={},
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"{program} did not answer `version` within 20 s") from None
    version = dict(line.partition(": ")[::2] for line in done.stdout.splitlines() if ": " in line)
    if done.returncode != 0 or "version" not in version:
        raise ValueError(f"{program} does not answer `version` as Funnel does (exit code {done.returncode})")
    with program.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return (
        f"{version['version'][:40]}, commit {version.get('git commit', '').strip()[:40] or 'not stamped'}, sha256"
        f" {digest[:12]}"
    )


@dataclass(frozen=True)
class FunnelSettings:
    """Values are put into YAML strings: no quotes, backslashes or line breaks.

    `sda_url` is the gateway's internal listener: `http+unix://%2Fpath%2Fto.sock` (INTERNAL_SOCKET) or
    `http://127.0.0.1:PORT` (INTERNAL_PORT, which every user of the machine can reach).
    """

    issuer: str
    client_id: str
    client_secret: str
    audience: str
    user: str
    password: str
    s3_endpoint: str
    s3_access: str
    s3_secret: str
    sda_url: str


def prepare(
    home: Path,
    funnel: Path,
    settings: FunnelSettings,
    images: Sequence[DriverImage],
    *,
    listen_port: int,
    key_files: tuple[Path, Path],
    reach: Sequence[int],
    slots: int = 16,
) -> list[str]:
    """Writes everything below `home` (mode 0700, a short path: it holds unix sockets) and gives the command line that
    runs this node's Funnel.

    `listen_port` is where it is reached on 127.0.0.1; `reach` are the other loopback ports that it reaches under the
    same numbers: provider and S3. `key_files` are the node's Crypt4GH secret and public key. At most `slots` tasks run
    at once. ValueError for values that YAML strings cannot hold.
    """
    values = asdict(settings)
    for name, value in values.items():
        if re.search(r'["\\\s$]', value):
            raise ValueError(
                f"{name}: quotes, backslashes, dollars and white space cannot be put into Funnel's configuration"
            )
    source, port = _source(settings.sda_url, home)
    values["sda_url"] = f"http://127.0.0.1:{SDA_PORT}"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    (home / "state").mkdir(exist_ok=True)
    driver = write_driver(home / "driver", images, tasks=home / "state" / "work", slots=slots)
    config = home / "funnel.yml"
    config.touch(mode=0o600)
    config.chmod(0o600)
    values.update(run=container_line.RUN, pull=container_line.PULL, stop=container_line.STOP)
    config.write_text(
        Template(TEMPLATE.read_text()).substitute(
            values, http_port=listen_port, rpc_port=RPC_PORT, state=home / "state", driver=driver
        )
    )
    spec = home / "spec.json"
    spec.write_text(
        json.dumps(
            {
                "bwrap": str(find_bwrap()),
                "funnel": str(funnel.resolve()),
                "config": str(config),
                "home": str(home),
                "listen": listen_port,
                "reach": sorted({*reach, *([port] if port else [])}),
                "gateway": str(source),
                "tasks": str(home / "state" / "work"),
                "secret_key": str(key_files[0]),
                "public_key": str(key_files[1]),
            }
        )
    )
    return [sys.executable, "-m", "gdi.local_federation.tes.funnel", str(spec)]


def _source(sda_url: str, home: Path) -> tuple[Path, int | None]:
    """The socket by which the namespace reaches the gateway, and the port behind it where the gateway listens on
    one.
    """
    url = urlsplit(sda_url)
    if url.scheme == "http+unix" and url.netloc:
        return Path(unquote(url.netloc)), None
    if url.scheme == "http" and url.port:
        return home / f"out-{url.port}", url.port
    raise ValueError(f"sda_url: {sda_url} is neither http+unix://%2Fpath%2Fto.sock nor http://127.0.0.1:PORT")


async def outside(spec_file: Path) -> int:
    """Relays, and the namespace as a child; ends when Funnel ends, and ends it on SIGTERM."""
    spec = json.loads(spec_file.read_text())
    home = Path(spec["home"])
    relays = [
        await SocketProxy(Unix(home / f"out-{port}"), Tcp("127.0.0.1", port), 256).start() for port in spec["reach"]
    ]
    relays.append(await SocketProxy(Tcp("127.0.0.1", spec["listen"]), Unix(home / "in"), 256).start())
    argv = [spec["bwrap"], "--die-with-parent", "--unshare-user", "--unshare-net", "--dev-bind", "/", "/"]
    child = await asyncio.create_subprocess_exec(
        *argv, sys.executable, "-m", "gdi.local_federation.tes.funnel", "--inside", str(spec_file)
    )
    return await _until_end(child, relays)


async def inside(spec_file: Path) -> int:
    """In the namespace: the other ends of the relays, Funnel with an environment of its own, and what a Funnel before
    it left undone.
    """
    spec = json.loads(spec_file.read_text())
    home = Path(spec["home"])
    # What comes from the gateway is opened and written anew; all else is relayed as it is.
    gateway = await crypt4gh_proxy.serve(SDA_PORT, Path(spec["gateway"]), Key.load(Path(spec["secret_key"])))
    relays = [
        await SocketProxy(Tcp("127.0.0.1", port), Unix(home / f"out-{port}"), 256).start() for port in spec["reach"]
    ]
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": spec["home"],
        "C4GH_SECRET_KEY": spec["secret_key"],
        "C4GH_PUBLIC_KEY": spec["public_key"],
    }

    async def run(*arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            spec["funnel"],
            *arguments,
            "--config",
            spec["config"],
            env=environment,
            cwd=home,
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
        )

    remains(Path(spec["tasks"]))
    child = await run("server", "run")
    again = asyncio.create_task(_open(spec, run, relays))
    again.add_done_callback(lambda done: _give_up(child, done))
    try:
        return await _until_end(child, relays)
    finally:
        again.cancel()
        await asyncio.wait([again])
        await crypt4gh_proxy.stop(gateway)


async def _open(
    spec: dict[str, Any], run: Callable[..., Awaitable[asyncio.subprocess.Process]], relays: list[SocketProxy]
) -> None:
    """Lets others in once the tasks are known that a Funnel before this one began: Funnel itself would show them as
    running for ever.

    `funnel worker run` takes such a task up under its id, from the start.
    """
    user = yaml.safe_load(Path(spec["config"]).read_text())["Server"]["BasicAuth"][0]
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{spec['listen']}/ga4gh/tes/v1",
        auth=(user["User"], user["Password"]),
        verify=authorities(),
        trust_env=False,
    ) as http:
        left = await interrupted(http)
    relays.append(await SocketProxy(Unix(Path(spec["home"]) / "in"), Tcp("127.0.0.1", spec["listen"]), 256).start())
    workers = asyncio.Semaphore(WORKERS)

    async def again(task: str) -> None:
        async with workers:
            log.warning(
                "task %s was interrupted; it runs again: exit code %d",
                task,
                await (await run("worker", "run", "--taskID", task)).wait(),
            )

    await asyncio.gather(*(again(task) for task in left))


def _give_up(child: asyncio.subprocess.Process, opening: asyncio.Task[None]) -> None:
    """A Funnel that nobody can reach ends, so that its supervisor starts it again."""
    if not opening.cancelled() and (error := opening.exception()) is not None:
        log.error("Funnel's unfinished tasks could not be taken up: %s: %s", type(error).__name__, error)
        with contextlib.suppress(ProcessLookupError):
            child.terminate()


async def interrupted(http: httpx.AsyncClient) -> list[str]:
    """The ids of all tasks that did not end, oldest first; waits until Funnel answers."""
    found: list[str] = []
    for state in ("RUNNING", "INITIALIZING", "QUEUED"):
        token = ""
        while True:
            try:
                # Few on a page: Funnel answers with whole tasks, at most 4 MB.
                answer = await http.get(
                    "/tasks",
                    params={"state": state, "view": "MINIMAL", "page_size": 16, "page_token": token},
                    timeout=30,
                )
            except httpx.TransportError:
                await asyncio.sleep(0.1)
                continue
            answer.raise_for_status()
            found += [t["id"] for t in answer.json().get("tasks") or []]
            if not (token := answer.json().get("next_page_token") or ""):
                break
    return sorted(found)


def remains(tasks: Path) -> None:
    """Removes the folders of tasks that ran when Funnel ended: what runs again begins in an empty one."""
    if tasks.is_dir():
        for left in tasks.iterdir():
            folder.remove(left)


async def _until_end(child: asyncio.subprocess.Process, relays: list[SocketProxy]) -> int:
    loop = asyncio.get_running_loop()

    def end() -> None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        return abs(await child.wait())
    finally:
        for relay in relays:
            await relay.close()


def _die_with_parent() -> None:
    """prctl(PR_SET_PDEATHSIG, SIGKILL): a Funnel whose relays are gone serves nobody."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def main(arguments: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if arguments[0] == "--inside":
        return asyncio.run(inside(Path(arguments[1])))
    return asyncio.run(outside(Path(arguments[0])))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
