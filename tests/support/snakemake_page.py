"""The commands of docs/snakemake.md."""

from __future__ import annotations

import re
import shlex
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.bare_rig import Bare, bare  # noqa: F401
from tests.support.wire import BoundHandler
from tests.support.wires import OAUTH

PAGE = (Path(__file__).parents[2] / "docs" / "snakemake.md").read_text()


BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


COMMANDS = [
    line
    for kind, block in BLOCKS
    if not kind
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("snakemake ")
]


SNAKEFILE = next(block for kind, block in BLOCKS if kind == "python").replace("debian:stable-slim", "gdi-task:1")


@pytest.fixture(scope="module")
def login(bare: Bare) -> Iterator[str]:
    """An OpenID Connect provider whose client `my-client` gets tokens that the TES takes."""

    class Handler(BoundHandler):
        wire = OAUTH

        def do_GET(self) -> None:
            self.answer(200, {"issuer": url, "token_endpoint": f"{url}/token"})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            token = bare.tes.world.aai.token("my-client")
            self.answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": 300})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield url
    server.shutdown()
    server.server_close()


def works(command: str, bare: Bare, login: str, tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    prefix, token = bare.prefix(), bare.tes.world.aai.token("me")
    secrets = {"tes-token": token, "tes-password": bare.tes.world.service_password, "client-secret": "any"}
    for name, value in secrets.items():
        (tmp_path / name).write_text(value)
    here = {
        "https://tes.example.org --": f"{bare.tes.url} --",
        "https://login.example.org": login,
        "/run/secrets/": f"{tmp_path}/",
        "--tes-auth-user me": "--tes-auth-user gateway",
        "s3://my-bucket/my-project": prefix,
        "https://s3.example.org": bare.weed.endpoint,
    }
    for example, mine in here.items():
        command = command.replace(example, mine)
    arguments = shlex.split(command)[1:]
    if "--default-storage-prefix" not in arguments:  # a profile has it
        arguments += [
            "--default-storage-provider",
            "s3",
            "--default-storage-prefix",
            prefix,
            "--storage-s3-endpoint-url",
            bare.weed.endpoint,
        ]
    environment = (
        {}
        if re.search("token-file|-client-|-user", command)
        else {"SNAKEMAKE_TES_AUTH_TOKEN": token, "SNAKEMAKE_STORAGE_SDA_TOKEN": token}
    )
    code, said = bare.snakemake(tmp_path, arguments, environment)
    assert code == 0, said
    assert bare.get(prefix, "hello.txt") == b"hello\n"
