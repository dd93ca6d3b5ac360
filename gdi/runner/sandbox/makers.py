"""Who makes the sandboxes here: bubblewrap, or podman or docker where namespaces may not be made. GDI_SANDBOX names
one.
"""

from __future__ import annotations

import functools
import os

from gdi.runner.sandbox import container
from gdi.runner.sandbox.bubblewrap import Bubblewrap, find_bwrap
from gdi.runner.sandbox.container import Engine
from gdi.runner.sandbox.spec import SandboxUnavailableError

Maker = Bubblewrap | Engine
VARIABLE = "GDI_SANDBOX"
NAMES = ("bubblewrap", *container.KINDS)


def find_maker() -> Maker:
    """The one that GDI_SANDBOX names, else the first that works. SandboxUnavailableError says what is missing of each
    and how to mend it.
    """
    return _find(os.environ.get(VARIABLE, ""))


@functools.cache
def _find(name: str) -> Maker:
    if name and name not in NAMES:
        raise SandboxUnavailableError(f"{VARIABLE}={name[:40]!r} is not known; it may be {', '.join(NAMES)}")
    problems: list[str] = []
    for each in (name,) if name else NAMES:
        try:
            return (
                Bubblewrap(find_bwrap())
                if each == "bubblewrap"
                else container.find("podman" if each == "podman" else "docker")
            )
        except SandboxUnavailableError as error:
            problems.append(str(error))
    if not name:
        problems.append(
            "Or install podman, or docker with a daemon that this user may use: sandboxes are then made by it."
        )
    raise SandboxUnavailableError("\n".join(problems))


def why_not() -> str | None:
    """None where sandboxes work; otherwise what is missing and how to mend it, for a preflight check."""
    try:
        find_maker()
    except SandboxUnavailableError as error:
        return str(error)
    return None
