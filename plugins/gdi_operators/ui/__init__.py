"""The pages' script and style: TypeScript and React in src/, built by `npm ci && npm run build` into dist/, which is
committed: Airflow needs no Node.js.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

HERE = Path(__file__).parent
DIST = HERE / "dist"
MADE_OF = ("build.mjs", "package-lock.json", "package.json", "tsconfig.json")
SCRIPTS = ("gdi.js", "home.js", "nodes.js")
ASSETS = {"gdi.css": "text/css", **dict.fromkeys(SCRIPTS, "text/javascript")}


def digest() -> str:
    """SHA-256 (hex) over names and contents of all sources, as build.mjs writes it into dist/sources.sha256 at each
    build.
    """
    names = [*MADE_OF, *(p.relative_to(HERE).as_posix() for p in (HERE / "src").rglob("*") if p.is_file())]
    total = hashlib.sha256()
    for name in sorted(names):
        data = (HERE / name).read_bytes()
        total.update(f"{name}\0{len(data)}\0".encode())
        total.update(data)
    return total.hexdigest()


@lru_cache(maxsize=1)
def version() -> str:
    """Of the built files: a browser keeps them until this changes."""
    return hashlib.sha256(b"".join((DIST / name).read_bytes() for name in sorted(ASSETS))).hexdigest()[:16]
