"""`make bench-snakemake`: every figure of docs/benchmarks.md, printed as `NAME VALUE UNIT (target) ok|short`; exit code
1 where one is short.

Run it on a machine that does nothing else: other load disturbs all wall times. `--quick` is the part for CI (less than
3 minutes); `--only NAME` one part.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

import scale  # noqa: E402
from kit import Row  # noqa: E402

Part = Callable[[Path], list[Row]]


def parts(quick: bool) -> dict[str, Part]:
    import cpu
    import many
    import peer
    import restart
    import submission

    big = 1000 if quick else 10_000
    found: dict[str, Part] = {
        "rounds": lambda folder: scale.rounds(folder, big),
        "share": lambda folder: scale.share(folder, big),
        "submission": lambda folder: submission.rows(folder, 600 if quick else 2000),
        "kills": lambda folder: restart.kills(folder, jobs=60 if quick else 1000, kills=3 if quick else 20),
        "cancel": lambda folder: restart.cancel(folder, 100 if quick else 1000),
        "cpu": lambda folder: cpu.rows(folder, direct=10 if quick else 30, inside=2 if quick else 4),
        "many": lambda folder: many.rows(folder, 500 if quick else 5000, 150 if quick else 1500),
        "chain": lambda folder: peer.rows(folder, with_peer=not quick),
    }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    options = parser.parse_args()
    print(
        f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; other load disturbs wall times", flush=True
    )
    short = 0
    for name, part in parts(options.quick).items():
        if options.only and name not in options.only:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as folder:
            for row in part(Path(folder)):
                short += not row.ok
                print(row, flush=True)
        print(f"  ({name}: {time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f})", flush=True)
    print(f"{short} short" if short else "all ok")
    return 1 if short else 0


if __name__ == "__main__":
    raise SystemExit(main())
