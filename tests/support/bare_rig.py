"""Snakemake against a TES with nothing of ours between: the stand-in (or real Funnel) and a real S3, as a user has them
who knows only Snakemake.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gdi.runner.sandbox.python import python_folders, source_folders
from tests.support.processes import die_with_parent
from tests.support.tes_kit import FakeAai, FakeGateway, StandIn, Tes, World
from tests.support.weed import Weed

FUNNEL = os.environ.get("GDI_FUNNEL", "")
PACKAGES = (
    "snakemake_tes_auth",
    "gdi.broker_client",
    "gdi.contracts",
    "gdi.kit",
    "snakemake_executor_plugin_tes_auth",
    "snakemake_storage_plugin_sda",
)
IMAGE = "gdi-task:1"


class Bare:
    """`tes` with its S3. Runs share it: each has a workspace prefix of its own. What a run is told: `arguments` and
    `environment`.
    """

    def __init__(self, tes: Tes) -> None:
        self.tes, self.weed = tes, tes.world.weed
        self.password = tes.world.home / "password"
        self.password.write_text(tes.world.service_password)
        self.password.chmod(0o600)

    def prefix(self) -> str:
        """A fresh workspace."""
        return f"s3://{self.weed.bucket}/{secrets.token_hex(4)}"

    def arguments(self, prefix: str, credential: tuple[str, ...] | None = None) -> list[str]:
        basic = ("--tes-auth-user", "gateway", "--tes-auth-password-file", str(self.password))
        return [
            *("--executor", "tes-auth", "--tes-auth-url", self.tes.url, *(basic if credential is None else credential)),
            *(
                "--default-storage-provider",
                "s3",
                "--default-storage-prefix",
                prefix,
                "--storage-s3-endpoint-url",
                self.weed.endpoint,
            ),
            *(
                "--jobs",
                "20",
                "--local-cores",
                "1",
                "--default-resources",
                "mem_mb=500",
                "disk_mb=100",
                "--scheduler",
                "greedy",
                "--latency-wait",
                "5",
            ),
            *("--nocolor", "--tes-auth-image", IMAGE),
        ]

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        keys = {
            "SNAKEMAKE_STORAGE_S3_ACCESS_KEY": self.weed.access,
            "SNAKEMAKE_STORAGE_S3_SECRET_KEY": self.weed.secret,
        }
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            **keys,
            **more,
        }

    def start(
        self,
        workdir: Path,
        prefix: str,
        *more: str,
        credential: tuple[str, ...] | None = None,
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Snakemake in `workdir`, which holds the Snakefile."""
        return self._start(workdir, [*self.arguments(prefix, credential), *more], environment or {})

    def local(self, workdir: Path, prefix: str, *more: str, environment: dict[str, str]) -> tuple[int, str]:
        """The same workflow by Snakemake's local executor, with its files in the same S3."""
        storage = ("--default-storage-provider", "s3", "--default-storage-prefix", prefix)
        server = ("--storage-s3-endpoint-url", self.weed.endpoint, "--nocolor", "--scheduler", "greedy")
        return self.snakemake(workdir, ["--cores", "2", *storage, *server, *more], environment)

    def _start(self, workdir: Path, arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=workdir,
            env=self.environment(workdir, **environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=die_with_parent,
        )

    def run(self, workdir: Path, prefix: str, *more: str, timeout: float = 300, **how: Any) -> tuple[int, str]:
        """The exit code and everything that was said."""
        return self._end(self.start(workdir, prefix, *more, **how), timeout)

    def snakemake(
        self, workdir: Path, arguments: list[str], environment: dict[str, str], timeout: float = 300
    ) -> tuple[int, str]:
        """Snakemake with these arguments and no other."""
        return self._end(self._start(workdir, arguments, environment), timeout)

    def _end(self, process: subprocess.Popen[str], timeout: float) -> tuple[int, str]:
        try:
            said, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            raise AssertionError(f"Snakemake did not end within {timeout} s:\n{said}") from None
        return process.returncode, said

    def put(self, prefix: str, path: str, data: bytes) -> None:
        self.weed.put(f"{self._key(prefix)}/{path}", data)

    def get(self, prefix: str, path: str) -> bytes:
        return self.weed.get(f"{self._key(prefix)}/{path}")

    def files(self, prefix: str) -> list[str]:
        """What lies in the workspace, by path, without our own files."""
        top = self._key(prefix) + "/"
        return sorted(k.removeprefix(top) for k in self.weed.keys(top) if not k.startswith(f"{top}.gdi/"))

    def tasks(self, **tags: str) -> list[dict[str, Any]]:
        """All tasks with these tags (`gdi_run="…"`), in full, oldest first."""
        wanted = {k.replace("_", "-"): v for k, v in tags.items()}
        page = self.tes.list(view="FULL", page_size=1000, tag_key=list(wanted), tag_value=list(wanted.values()))
        return sorted(page.get("tasks", []), key=lambda t: str(t["creation_time"]))

    def of_prefix(self, prefix: str) -> list[dict[str, Any]]:
        """The tasks that write into this workspace."""
        return [t for t in self.tasks() if any(str(o["url"]).startswith(prefix + "/") for o in t.get("outputs") or [])]

    def _key(self, prefix: str) -> str:
        return prefix.removeprefix(f"s3://{self.weed.bucket}/")


@pytest.fixture(scope="session", params=["stand-in", "funnel"] if FUNNEL else ["stand-in"])
def bare(request: pytest.FixtureRequest) -> Iterator[Bare]:
    """One TES and one S3 for the whole session."""
    home, s3 = Path(tempfile.mkdtemp(prefix="bare-")), Path(tempfile.mkdtemp(prefix="bare-s3-"))
    weed = Weed(s3)
    funnel = request.param == "funnel"
    world = World(home, weed, FakeGateway(home, funnel=funnel), FakeAai())
    folders = [b.source for b in (*python_folders(), *source_folders(*PACKAGES))]
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    if funnel:
        from gdi.runner.sandbox.docker import DriverImage
        from tests.support.funnel_kit import Funnel

        server: Any = Funnel(world, Path(FUNNEL), images=[DriverImage(IMAGE, folders, path)])
    else:
        server = StandIn(world, images=[{"match": "gdi-task:*", "folders": [str(f) for f in folders], "path": path}])
    yield Bare(server)
    server.close()
    world.close()
    weed.close()
    shutil.rmtree(home, ignore_errors=True)
    shutil.rmtree(s3, ignore_errors=True)
