"""A real nginx before a gateway of tests/support/gateway_world.py, with the configuration that the gateway writes."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
from pathlib import Path

import httpx

from tests.support.debian import program
from tests.support.gateway_world import KEY, World, wait
from tests.support.processes import die_with_parent, free_port


class Nginx:
    def __init__(self, folder: Path, world: World) -> None:
        secret = folder / "door-secret"
        secret.write_text(secrets.token_hex(32))
        secret.chmod(0o600)
        world.stop()
        world.extra["DOOR_SECRET_FILE"] = str(secret)
        world.start()
        self.secret, port = secret.read_text(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        made = world.command("nginx-config", "--listen", f"127.0.0.1:{port}")
        assert made.returncode == 0, made.stderr
        temporary = "".join(
            f"{n}_temp_path {folder}/{n};" for n in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""  # who may use the gateway's socket
        whole = f"""{user} daemon off; error_log {folder}/error.log; pid {folder}/pid; worker_processes 1;
            events {{}} http {{ access_log {folder}/access.log; {temporary} {made.stdout} }}"""
        (folder / "nginx.conf").write_text(whole)
        self.process = subprocess.Popen(
            [program("nginx-light"), "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"],
            preexec_fn=die_with_parent,
        )

        def ready() -> bool:
            assert self.process.poll() is None, (folder / "error.log").read_text()
            try:
                return httpx.get(self.url, trust_env=False).status_code == 404
            except httpx.HTTPError:
                return False

        wait(ready, what="nginx's start")

    def read(self, path: str, capability: str, *, key: bytes = KEY, method: str = "GET") -> httpx.Response:
        headers = {"Authorization": f"Bearer {capability}", "Client-Public-Key": base64.b64encode(key).decode()}
        return httpx.request(method, self.url + path, headers=headers, timeout=60, trust_env=False)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
