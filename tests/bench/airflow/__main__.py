"""`python -m tests.bench.airflow [PART …]`: all parts, or the named ones, one process after the other; exit code 1
where a figure is short of its target.
"""

from __future__ import annotations

import sys

from tests.bench.airflow.report import parts

PARTS = ("start", "rules", "kills", "jobs", "sizing")


if __name__ == "__main__":
    sys.exit(parts("tests.bench.airflow", PARTS, sys.argv[1:]))
