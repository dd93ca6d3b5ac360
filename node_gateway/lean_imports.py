"""Imports of a node's two processes without what libraries bring along and no node uses. Measured (docs/benchmarks.md):
httpx's command line 5 MB, SQLAlchemy's ORM 6 MB, in each process. Called before anything else is imported.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType

ASYNC = "sqlalchemy.ext.asyncio"


class _AsyncPackage(ModuleType):
    """SQLAlchemy's package, whose names are looked for in its modules when they are asked for: its own `__init__`
    imports the ORM for the sake of AsyncSession.
    """

    def __getattr__(self, name: str) -> object:
        if not name.lower().startswith(("async", "create_async", "close_all")):  # a module of it, or nothing
            raise AttributeError(name)
        for part in ("engine", "result", "session", "scoping"):
            found = importlib.import_module(f"{ASYNC}.{part}")
            if hasattr(found, name):
                return getattr(found, name)
        raise AttributeError(f"{ASYNC} has no {name}")


def apply() -> None:
    """Changes nothing of what was imported before."""
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # httpx does without
    if ASYNC in sys.modules:
        return
    spec = find_spec(ASYNC)
    if spec is None or spec.submodule_search_locations is None:
        return
    package = _AsyncPackage(ASYNC, "SQLAlchemy's asyncio, without the ORM until somebody asks for it.")
    package.__path__ = list(spec.submodule_search_locations)
    package.__spec__ = spec
    sys.modules[ASYNC] = package
