"""The Snakemake side as its users get it: each command of docs/snakemake.md, and an installation with nothing else of
this project around it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.bare_rig import Bare, bare  # noqa: F401
from tests.support.snakemake_page import COMMANDS, SNAKEFILE, login, works  # noqa: F401
from tests.support.tes_kit import ROOT

pytestmark = pytest.mark.system


@pytest.mark.parametrize("command", COMMANDS[1:], ids=range(1, len(COMMANDS)))
def test_a_command_of_the_page_works_as_it_is_written(bare: Bare, login: str, tmp_path: Path, command: str) -> None:
    works(command, bare, login, tmp_path)


def test_the_distribution_with_its_snakemake_extra_is_all_that_is_needed(bare: Bare, tmp_path: Path) -> None:
    """A fresh environment, from the wheel: neither Airflow nor the broker's or the gateway's packages are there."""
    uv, home = ROOT / ".venv" / "uv" / "bin" / "uv", tmp_path / "env"
    tool = str(uv) if uv.exists() else "uv"
    subprocess.run(
        [tool, "build", "--wheel", "--quiet", "--out-dir", str(tmp_path / "dist"), str(ROOT)], check=True, timeout=300
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    subprocess.run([tool, "venv", "--quiet", str(home)], check=True, timeout=60)
    subprocess.run(
        [tool, "pip", "install", "--quiet", "--python", str(home / "bin" / "python"), f"{wheel}[snakemake]"],
        check=True,
        timeout=600,
    )
    assert not list(home.glob("lib/python*/site-packages/airflow")) and not list(
        home.glob("lib/python*/site-packages/fastapi")
    )
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "Snakefile").write_text(SNAKEFILE)
    prefix = bare.prefix()
    environment = {**bare.environment(tmp_path / "w"), "PATH": f"{home / 'bin'}:{os.environ['PATH']}"}
    command = [str(home / "bin" / "snakemake"), *bare.arguments(prefix)]
    done = subprocess.run(
        command,
        cwd=tmp_path / "w",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert bare.get(prefix, "hello.txt") == b"hello\n"
