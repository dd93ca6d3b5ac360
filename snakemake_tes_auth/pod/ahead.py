"""The pod's first moments: Snakemake's process is begun before this one imports what it needs itself, so that both are
ready at the same time. What Snakemake has to know by then is in run.json.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from gdi.contracts import run_file
from gdi.contracts.workflow import CatalogueError
from snakemake_tes_auth.folders import Folders
from snakemake_tes_auth.pod.process import REFUSED, WaitingSnakemake


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m snakemake_tes_auth.pod", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("/gdi"), help="the pod's folder (default /gdi)")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    folders = Folders(root=options.root.absolute())
    try:
        run = run_file.load(folders.run_file)
        snakemake = WaitingSnakemake(folders, run)
    except (run_file.RunFileError, CatalogueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    try:
        from snakemake_tes_auth.pod.snakemake_pod import SnakemakePod  # only now: it is a second of imports

        return asyncio.run(SnakemakePod(folders, run, snakemake).main())
    except (run_file.RunFileError, CatalogueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    finally:
        snakemake.end()
