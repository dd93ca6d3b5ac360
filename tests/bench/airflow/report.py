"""One line a figure: `NAME VALUE UNIT (target) ok|short`."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path


def row(name: str, value: float, unit: str, target: str = "printed", good: bool | None = None) -> bool:
    """Prints it; whether it is good (a figure without a target is)."""
    print(f"{name} {value:.3g} {unit} ({target}) {'ok' if good is not False else 'short'}", flush=True)
    return good is not False


def p95(values: Sequence[float]) -> float:
    return sorted(values)[max(0, math.ceil(0.95 * len(values)) - 1)]


def run(measure: Callable[[Path], bool]) -> int:
    """The exit code of a part: 1 where a figure is short of its target."""
    with tempfile.TemporaryDirectory(prefix="gdi-b-") as work:
        return 0 if measure(Path(work)) else 1


def parts(package: str, names: Sequence[str], asked: Sequence[str]) -> int:
    """Runs `python -m PACKAGE.PART`, one process after the other. The exit code of all: 1 where one was short, 2 where
    there is no such part.
    """
    if unknown := sorted(set(asked) - set(names)):
        print(f"there is no part {', '.join(unknown)}; there are {', '.join(names)}")
        return 2
    codes = [
        subprocess.run([sys.executable, "-m", f"{package}.{name}"], check=False).returncode for name in asked or names
    ]
    return 1 if any(codes) else 0
