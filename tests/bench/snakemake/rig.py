"""A local TES (the stand-in, or real Funnel) and a real S3, as tests/integration has them, for one part of the
benchmark.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gdi.runner.sandbox.python import python_folders, source_folders
from tests.support.bare_rig import IMAGE, PACKAGES, Bare
from tests.support.tes_kit import FakeAai, FakeGateway, StandIn, World
from tests.support.weed import Weed

Rig = Bare
HERE = Path(__file__).parent


@contextmanager
def rig(*, slots: int | None = None, open_for: Path | None = None, times: Path | None = None) -> Iterator[Bare]:
    """Funnel where GDI_FUNNEL names it and nothing else is asked for, otherwise the stand-in.

    `open_for`: a virtual environment that tasks of the image `peer:1` see; all tasks get the network then. `times`:
    where tasks leave their CPU times.
    """
    home, s3 = Path(tempfile.mkdtemp(prefix="b-")), Path(tempfile.mkdtemp(prefix="b3-"))
    weed = Weed(s3)
    funnel = os.environ.get("GDI_FUNNEL", "")
    use_funnel = bool(funnel) and slots is None and open_for is None and times is None
    world = World(home, weed, FakeGateway(home, funnel=use_funnel), FakeAai())
    folders = [b.source for b in (*python_folders(), *source_folders(*PACKAGES))]
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    server: object
    if use_funnel:
        from gdi.runner.sandbox.docker import DriverImage
        from tests.support.funnel_kit import Funnel

        server = Funnel(world, Path(funnel), images=[DriverImage(IMAGE, folders, path)])
    else:
        images = [{"match": "gdi-task:*", "folders": [str(f) for f in folders], "path": path}]
        if open_for is not None:
            python = Path(os.path.realpath(open_for / "bin" / "python")).parent.parent
            images.append(
                {
                    "match": "peer:*",
                    "folders": [str(open_for), str(python)],
                    "path": f"{open_for}/bin:/usr/local/bin:/usr/bin:/bin",
                }
            )
        settings = {"BENCH_NETWORK": "1"} if open_for else {}
        settings |= {"BENCH_TIMES": str(times)} if times else {}
        server = (
            Open(world, settings, images=images, slots=slots or (os.cpu_count() or 2))
            if settings
            else StandIn(world, images=images, slots=slots or 2)
        )
    try:
        yield Bare(server)  # type: ignore[arg-type]
    finally:
        server.close()  # type: ignore[attr-defined]
        world.close()
        weed.close()
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(s3, ignore_errors=True)


class Open(StandIn):
    """The stand-in by open_tes.py."""

    def __init__(self, world: World, environment: dict[str, str], **overrides: Any) -> None:
        self.more = environment
        super().__init__(world, **overrides)

    def _start(self) -> subprocess.Popen[Any]:
        real = subprocess.Popen

        def start(argv: list[str], **given: Any) -> subprocess.Popen[Any]:
            environment = {**given["env"], **self.more, "PYTHONPATH": str(HERE.parents[2])}
            return real([argv[0], str(HERE / "open_tes.py"), *argv[3:]], **{**given, "env": environment})

        subprocess.Popen = start  # type: ignore[misc, assignment]
        try:
            return super()._start()
        finally:
            subprocess.Popen = real  # type: ignore[misc]
