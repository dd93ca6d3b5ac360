"""A real Redis of Debian's in a folder of its own, with a password, that writes down everything it is ever told."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import redis

from tests.support.broker_kit import PORTS, wait_for
from tests.support.postgres_kit import end_with_parent

BASE64 = re.compile(rb"[A-Za-z0-9+/]{40,}={0,2}")


class Redis:
    """One server on loopback. Its append-only file keeps each command, also of what was long taken from a queue."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self.folder = Path(tempfile.mkdtemp(prefix="gdi-redis-"))
        self.port = PORTS.take()
        self.password = secrets.token_urlsafe(24)
        self.url = f"redis://:{self.password}@127.0.0.1:{self.port}/0"
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        settings = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.folder,
            "requirepass": self.password,
            "appendonly": "yes",
            "save": '""',
            "auto-aof-rewrite-percentage": 0,
            "logfile": self.folder / "server.log",
        }
        config = self.folder / "redis.conf"  # not arguments: every user of the machine may read those
        config.touch(0o600)
        config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        self._server = subprocess.Popen(
            [str(self.program), str(config)], cwd=self.folder, stdin=subprocess.DEVNULL, preexec_fn=end_with_parent
        )
        wait_for("Redis answers", self._answers, 30)

    def _answers(self) -> bool:
        log = self.folder / "server.log"
        assert self._server is not None and self._server.poll() is None, (
            f"Redis ended:\n{log.read_text()[-2000:] if log.exists() else ''}"
        )
        try:
            with redis.Redis.from_url(self.url, socket_timeout=5) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def told(self) -> Iterator[bytes]:
        """Everything that was ever put into it: as it came, and what of it is base64 (Celery's bodies of messages)
        decoded.
        """
        for path in sorted((self.folder / "appendonlydir").iterdir()):
            content = path.read_bytes()
            yield content
            for found in BASE64.findall(content):
                with contextlib.suppress(binascii.Error):
                    yield base64.b64decode(found)

    def stop(self) -> None:
        if self._server is not None and self._server.poll() is None:
            self._server.terminate()
            self._server.wait(120)
        shutil.rmtree(self.folder, ignore_errors=True)
