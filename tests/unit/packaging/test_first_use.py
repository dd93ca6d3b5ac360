"""Every dependency has a use: a file that imports it, or names it to what loads or runs it."""

from __future__ import annotations

import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "packaging" / "first_use.py"


def test_every_dependency_is_used() -> None:
    uses: dict[str, str] = runpy.run_path(str(SCRIPT))["first_uses"]()
    assert len(uses) > 40 and [name for name, file in uses.items() if not file] == []
