"""`python -m tests.bench.airflow [PART …]`: all parts, or the named ones, one process after the other; exit code 1 where a figure is short of its target."""

from __future__ import annotations

import subprocess
import sys

PARTS = ("start", "rules", "kills", "jobs", "sizing")


def main(asked: list[str]) -> int:
    if unknown := sorted(set(asked) - set(PARTS)):
        print(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
        return 2
    codes = [subprocess.run([sys.executable, "-m", f"tests.bench.airflow.{name}"], check=False).returncode for name in asked or PARTS]
    return 1 if any(codes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
