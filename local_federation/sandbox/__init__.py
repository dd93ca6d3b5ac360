"""Strangers' programs in a bubblewrap sandbox: no network, an empty environment, a read-only root, nothing of the host but what is bound.

`Sandbox(...).argv(bwrap, command)` builds the command line, `find_bwrap()` finds a bubblewrap that works here or says how to mend what is missing.
"""

from local_federation.sandbox.bubblewrap import SandboxUnavailableError, find_bwrap, why_not
from local_federation.sandbox.python import python_folders, source_folders
from local_federation.sandbox.spec import Bind, Limits, Sandbox
from local_federation.sandbox.tree import UnsafePathError, open_in_root, resolve_in_root

__all__ = [
    "Bind",
    "Limits",
    "Sandbox",
    "SandboxUnavailableError",
    "UnsafePathError",
    "find_bwrap",
    "open_in_root",
    "python_folders",
    "resolve_in_root",
    "source_folders",
    "why_not",
]
