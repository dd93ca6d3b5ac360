"""Strangers' programs in a sandbox: no network, an empty environment, a read-only root, nothing of the host but what is
bound.

`find_maker()` finds who can make sandboxes here (bubblewrap, podman, docker) or says how to mend what is missing; its
`argv(Sandbox(...), command)` is the command line.
"""

from gdi.funnel.tree import UnsafePathError, open_in_root, resolve_in_root
from gdi.runner.sandbox.bubblewrap import Bubblewrap, find_bwrap
from gdi.runner.sandbox.container import Engine
from gdi.runner.sandbox.makers import Maker, find_maker, why_not
from gdi.runner.sandbox.python import python_folders, source_folders
from gdi.runner.sandbox.spec import Bind, Sandbox, SandboxLimits, SandboxUnavailableError

__all__ = [
    "Bind",
    "Bubblewrap",
    "Engine",
    "Maker",
    "Sandbox",
    "SandboxLimits",
    "SandboxUnavailableError",
    "UnsafePathError",
    "find_bwrap",
    "find_maker",
    "open_in_root",
    "python_folders",
    "resolve_in_root",
    "source_folders",
    "why_not",
]
