"""Whoever builds the pages anew gets the very bytes that are committed. Needs Node.js and the npm registry."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gdi_operators import ui

pytestmark = pytest.mark.system


def test_a_fresh_build_gives_the_committed_bundle(tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed: apt-get install npm")
    copy = tmp_path / "ui"
    shutil.copytree(ui.HERE, copy, ignore=shutil.ignore_patterns("node_modules", "dist", "__pycache__"))
    for command in (["ci", "--no-audit", "--no-fund", "--ignore-scripts"], ["run", "build"]):
        done = subprocess.run([npm, *command], cwd=copy, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode and command[0] == "ci" and "network" in done.stderr.lower():
            pytest.skip("the npm registry cannot be reached")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for name in (*ui.ASSETS, "sources.sha256"):
        assert (copy / "dist" / name).read_bytes() == (ui.DIST / name).read_bytes(), (
            f"{name} differs: build it with the locked versions and commit it"
        )
