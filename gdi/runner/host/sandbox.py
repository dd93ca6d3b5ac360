"""What a Snakemake pod may see: the system and Python read-only, its own pod's folders, two unix sockets; no network,
no one else.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from gdi.runner.sandbox import Bind, Maker, Sandbox, SandboxLimits, python_folders, source_folders
from gdi.runner.sandbox.bubblewrap import Concealed


@dataclass(frozen=True)
class PodFolders:
    """A pod's folders on the host. `work` outlives the pod: it belongs to the run's part at the node."""

    pod: Path
    work: Path

    @property
    def workflow(self) -> Path:
        return self.pod / "workflow"

    @property
    def identity(self) -> Path:
        return self.pod / "identity"

    @property
    def sockets(self) -> Path:
        return self.pod / "sockets"

    @property
    def run_json(self) -> Path:
        return self.pod / "run.json"

    @property
    def log(self) -> Path:
        return self.pod / "log"

    def make(self) -> None:
        for folder in (self.pod, self.work, self.workflow, self.identity, self.sockets):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def argv(
    maker: Maker, folders: PodFolders, command: list[str], *, packages: list[str], tmp_bytes: int, status_fd: int
) -> Concealed:
    """The pod's command line, with the descriptors that it needs besides `status_fd`. Its environment is PATH, HOME,
    XDG_CACHE_HOME and LANG.
    """
    binds = [
        *python_folders(),
        *source_folders(*packages),
        Bind(folders.workflow, "/gdi/workflow"),
        Bind(folders.work, "/gdi/work", writable=True),
        Bind(folders.identity, "/gdi/identity"),
        Bind(folders.sockets, "/gdi/sockets"),
        Bind(folders.run_json, "/gdi/run.json"),
    ]
    sandbox = Sandbox(
        binds=binds,
        workdir="/gdi/work",
        environment={"HOME": "/gdi/work", "XDG_CACHE_HOME": "/gdi/work/.cache", "LANG": "C.UTF-8"},
        path=f"{Path(sys.prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        tmp_bytes=tmp_bytes,
        hostname="pod",
        limits=SandboxLimits(processes=1024, open_files=4096),
    )
    return maker.conceal(maker.argv(sandbox, command, status_fd=status_fd))
