"""The smallest entry that `gdi workflow init` writes runs as it is, on the federation of one node that `gdi workflow
test` starts and leaves nothing of.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gdi.runner.sandbox import why_not

pytestmark = [pytest.mark.system, pytest.mark.skipif(why_not() is not None, reason=f"no sandboxes here: {why_not()}")]


def gdi(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gdi.cli.main", "workflow", *arguments, "--catalogue", str(folder)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "GDI_"))}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=500, stdin=subprocess.DEVNULL, env=environment, check=False
    )


def test_a_new_entry_runs_as_it_is_on_a_federation_of_one_node(tmp_path: Path) -> None:
    assert gdi(tmp_path, "init", "my-counts").returncode == 0
    done = gdi(tmp_path, "test", "my-counts")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "my-counts succeeded" in done.stdout and "sites released" in done.stdout
    assert "sites: 0 sites released" not in done.stdout


def test_a_new_entry_that_counts_people_releases_its_table(tmp_path: Path) -> None:
    assert gdi(tmp_path, "init", "my-table", "--kind", "table").returncode == 0
    done = gdi(tmp_path, "test", "my-table")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "people: 1 tables released" in done.stdout
    failed = gdi(tmp_path, "test", "my-table", "--set", "column=9")
    assert failed.returncode == 1 and "--set: column: 9 is not of type 'string'" in failed.stdout.replace("\n", " ")
