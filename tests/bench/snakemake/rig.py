"""A local TES (the stand-in, or real Funnel) and a real S3, as tests/integration has them, for one part of the benchmark."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bare_rig import IMAGE, PACKAGES, Bare
from tes_kit import FakeAai, FakeGateway, StandIn, Weed, World

from local_federation.sandbox.python import python_folders, source_folders

Rig = Bare


@contextmanager
def rig(folder: Path, *, slots: int | None = None, open_for: Path | None = None) -> Iterator[Bare]:
    """`open_for`: a virtual environment that tasks of the image `peer:1` see; they get the network too. Funnel where GDI_FUNNEL names it and neither is set."""
    home, s3 = Path(tempfile.mkdtemp(prefix="b-")), Path(tempfile.mkdtemp(prefix="b3-"))
    weed = Weed(s3)
    funnel = os.environ.get("GDI_FUNNEL", "")
    use_funnel = bool(funnel) and slots is None and open_for is None
    world = World(home, weed, FakeGateway(home, funnel=use_funnel), FakeAai())
    folders = [b.source for b in (*python_folders(), *source_folders(*PACKAGES))]
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    server: object
    if use_funnel:
        from funnel_kit import Funnel

        from local_federation.sandbox.docker import DriverImage

        server = Funnel(world, Path(funnel), images=[DriverImage(IMAGE, folders, path)])
    else:
        images = [{"match": "gdi-task:*", "folders": [str(f) for f in folders], "path": path}]
        if open_for is not None:
            python = Path(os.path.realpath(open_for / "bin" / "python")).parent.parent
            images.append({"match": "peer:*", "folders": [str(open_for), str(python)], "path": f"{open_for}/bin:/usr/local/bin:/usr/bin:/bin"})
        kind = OpenStandIn if open_for is not None else StandIn
        server = kind(world, images=images, slots=slots or (os.cpu_count() or 2))
    try:
        yield Bare(server)  # type: ignore[arg-type]
    finally:
        server.close()  # type: ignore[attr-defined]
        world.close()
        weed.close()
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(s3, ignore_errors=True)


class OpenStandIn(StandIn):
    """The stand-in with tasks that have the network, as the published plugin's need it. For this benchmark only."""

    module = str(Path(__file__).with_name("open_tes.py"))

    def _start(self):  # type: ignore[no-untyped-def]
        import subprocess

        real = subprocess.Popen

        def start(argv, **more):  # type: ignore[no-untyped-def]
            return real([argv[0], self.module, *argv[3:]], **{**more, "env": {**more["env"], "PYTHONPATH": str(Path(__file__).parents[3])}})

        subprocess.Popen = start  # type: ignore[misc,assignment]
        try:
            return super()._start()
        finally:
            subprocess.Popen = real  # type: ignore[misc]
