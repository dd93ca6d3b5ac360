"""`python -m snakemake_tes_auth.pod.waiting ARGUMENTS`: Snakemake's own process. It imports what it will need while the
pod's entry point prepares the run, and begins when a line comes on its standard input; with none it ends.
"""

from __future__ import annotations

import importlib
import os
import sys

NEEDED = (
    "snakemake.cli",
    "snakemake.workflow",
    "snakemake_executor_plugin_tes_auth",
    "snakemake_storage_plugin_sda",
    "snakemake_logger_plugin_airflow",
)


def main() -> None:
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # its command line; httpx does without
    for name in NEEDED:
        importlib.import_module(name)
    if not sys.stdin.buffer.readline():
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    importlib.import_module("snakemake.cli").main(sys.argv[1:])


if __name__ == "__main__":
    main()
