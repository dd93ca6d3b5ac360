"""Figures of the Airflow side, each with what it has to be: `make bench-airflow`."""

import sys
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).resolve().parents[2] / folder) for folder in ("system", "integration")
]  # the tests' kits serve here too
