"""Our share of a start beside that of another commit: `python -m tests.bench.kubernetes.beside FOLDER [TURNS]` runs the
part `start` of the checkout in FOLDER (`git worktree add FOLDER COMMIT`, then `make setup` there) and of this one in
turns, so that both have the same machine at the same time. Five minutes for each, on an idle machine of two cores.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import median

from tests.bench.airflow.report import p95, row
from tests.kubernetes.cluster import ROOT

OURS = re.compile(r"# admit ([\d.]+) s, launch ([\d.]+) s, Snakemake and entry point ([\d.]+) s")
ALONE = re.compile(r"snakemake_alone_to_its_first_job ([\d.]+) s")


def shares(said: str) -> list[float]:
    """Seconds of each start that was measured, of what the part `start` printed. ValueError where it measured none."""
    alone, parts = ALONE.search(said), OURS.findall(said)[1:]  # the first warms
    if alone is None or not parts:
        raise ValueError(f"no start was measured:\n{said[-3000:]}")
    return [sum(map(float, one)) - float(alone[1]) for one in parts]


def measured(folder: Path) -> list[float]:
    print(f"# {folder.name}, load {os.getloadavg()[0]:.1f}", flush=True)
    command = [str(folder / ".venv/bin/python"), "-m", "tests.bench.kubernetes.start"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800, check=False)
    print(done.stdout, flush=True)
    return shares(done.stdout + done.stderr)


def main(before: Path, turns: int) -> int:
    found: dict[Path, list[float]] = {before: [], ROOT: []}
    for turn in range(turns):
        for folder in (before, ROOT) if turn % 2 == 0 else (ROOT, before):
            found[folder] += measured(folder)
    good = True
    for name, figure in (("p50", median), ("p95", p95)):
        row(f"our_share_{name}_before", most := figure(found[before]), "s")
        good &= row(f"our_share_{name}", value := figure(found[ROOT]), "s", f"<={most:.3g}", value <= most)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 2))
