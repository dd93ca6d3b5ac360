"""`python -m tests.bench.kubernetes [PART …]`: all parts, or the named ones, one process after the other; exit code 1
where a figure is short of its target.

Needs what `make test-kubernetes` needs.
"""

from __future__ import annotations

import sys

from tests.bench.airflow.report import parts

PARTS = ("images", "update", "start", "many")


if __name__ == "__main__":
    sys.exit(parts("tests.bench.kubernetes", PARTS, sys.argv[1:]))
