"""The wheels of `make dist`, by their folders."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WHEELS = sorted(path.parent.name for path in (ROOT / "packaging").glob("*/pyproject.toml"))
