"""`make dist`: builds a wheel of each packaging/NAME/pyproject.toml into dist/, with hatchling of this environment and
no network. Names as arguments: only these.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
DIST = HERE.parent / "dist"


def names() -> list[str]:
    """The wheels, by their folders."""
    return sorted(path.parent.name for path in HERE.glob("*/pyproject.toml"))


def build(name: str, into: Path) -> Path:
    """The new wheel. RuntimeError with the end of what hatchling printed."""
    for old in into.glob(f"{name.replace('-', '_')}-*.whl"):
        old.unlink()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(into)]
    done = subprocess.run(command, cwd=HERE / name, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: hatchling failed with exit code {done.returncode}\n{done.stderr[-3000:]}")
    (wheel,) = into.glob(f"{name.replace('-', '_')}-*.whl")
    return wheel


def main() -> int:
    selection = sys.argv[1:] or names()
    if unknown := sorted(set(selection) - set(names())):
        print(f"no such wheel: {', '.join(unknown)}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    DIST.mkdir(exist_ok=True)
    for name in selection:
        try:
            wheel = build(name, DIST)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"dist/{wheel.name}  {wheel.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
