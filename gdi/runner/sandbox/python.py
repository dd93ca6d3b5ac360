"""Which folders a sandbox must see to run this very Python environment, and no more of the machine than that."""

from __future__ import annotations

import site
import sys
from importlib import util
from pathlib import Path

from gdi.runner.sandbox.spec import Bind


def python_folders() -> list[Bind]:
    """The virtual environment and the interpreter behind it, read-only at the same paths; what lies under /usr is in
    every sandbox already.
    """
    paths = [
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path(sys.executable).resolve().parent.parent,
        *map(Path, site.getsitepackages()),
    ]
    return _outermost([p for path in paths for p in (path, path.resolve())])


def source_folders(*packages: str) -> list[Bind]:
    """The folders of the named top-level packages where they lie outside the environment (an editable installation).
    ValueError for an unknown one.
    """
    folders: list[Path] = []
    for name in packages:
        spec = util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(f"the package {name} is not installed in this environment")
        folders += [Path(p) for p in spec.submodule_search_locations]
    inside = [b.source for b in python_folders()]
    return _outermost([f for f in folders if not any(f.is_relative_to(i) for i in inside)])


def _outermost(paths: list[Path]) -> list[Bind]:
    kept: list[Path] = []
    for path in sorted(set(paths), key=lambda p: len(p.parts)):
        if path.is_dir() and not path.is_relative_to("/usr") and not any(path.is_relative_to(k) for k in kept):
            kept.append(path)
    return [Bind(p, str(p)) for p in kept]
