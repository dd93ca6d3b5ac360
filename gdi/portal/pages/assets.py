"""The pages' one style sheet and one script, under names that change with them."""

from __future__ import annotations

from importlib.resources import files

from fastapi import Response

from gdi.kit.canonical import sha256_hex

TYPES = {"portal.css": "text/css", "portal.js": "text/javascript", "icon.svg": "image/svg+xml"}
_CONTENTS = {name: files("gdi.portal.pages").joinpath("static", name).read_bytes() for name in TYPES}
VERSION = sha256_hex(b"\0".join(_CONTENTS.values()))[:12]


def asset(version: str, name: str) -> Response | None:
    """None where there is no such file. A file of this very version is kept for a year."""
    if name not in _CONTENTS:
        return None
    kept = {"Cache-Control": "public, max-age=31536000, immutable"} if version == VERSION else {}
    return Response(_CONTENTS[name], media_type=TYPES[name], headers=kept)
