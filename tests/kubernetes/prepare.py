"""Makes what `make test-kubernetes` would make first, Kubernetes itself and the images: `python -m
tests.kubernetes.prepare [--idle]`.

A quarter of an hour of two cores where nothing is there yet, seconds after that. `--idle`: of what CPU time others
leave. Exit code 3: it cannot be made here, with the reason.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.kubernetes import images, programs
from tests.kubernetes.cluster import PACKAGES
from tests.support.debian import install

TARGETS = ("broker", "portal")  # which CI's files need; the others' tests build theirs
CANNOT = 3


def missing() -> str | None:
    """Why no cluster can run here, or None. Installs the Debian packages where it may."""
    if os.geteuid() != 0:
        return "root is needed: a node makes namespaces, mounts and control groups"
    absent = [name for name, program in {**PACKAGES, **images.PACKAGES}.items() if not Path(program).exists()]
    return install(absent) or programs.missing()


def _idle() -> None:
    """For this process and all that it starts. In a session of its own: the kernel weighs sessions, and these weights
    are then this one's.
    """
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    group = Path("/proc/self/autogroup")
    if group.exists():
        group.write_text("19")


def main() -> int:
    if why := missing():
        print(f"No Kubernetes here: {why}")
        return CANNOT
    if "--idle" in sys.argv:
        _idle()
    try:
        print(f"Kubernetes is in {programs.build()}", flush=True)
        for target in TARGETS:
            print(f"{images.name_of(target)}: {images.built(target):.0f} MB", flush=True)
    except (programs.BuildError, images.ImageError) as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
