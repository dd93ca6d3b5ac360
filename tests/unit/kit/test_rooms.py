"""Arrows between rooms go one way, and nothing turns in a circle: pyproject.toml's contracts, held against a wrong one.

The contracts themselves run in `make lint`. Here they must fail for a planted import, also for one in a function.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[3]
ROOMS: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{folder / 'plugins'}"}
    return subprocess.run(
        [program, "--no-cache", "--config", str(folder / "pyproject.toml")],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rooms' code, to plant in."""
    folder = tmp_path_factory.mktemp("rooms")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for top in ("gdi", "token_broker", "node_gateway", "snakemake_tes_auth", "plugins/gdi_operators"):
        shutil.copytree(ROOT / top, folder / top, ignore=shutil.ignore_patterns("__pycache__", "ui"))
    return folder


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("node_gateway/policy.py", "import token_broker.settings\n"),
        ("node_gateway/tasks/service.py", "import node_gateway.context\n"),
        ("gdi/kit/canonical.py", "def late() -> None:\n    from gdi.contracts import workflow  # noqa: F401\n"),
        ("token_broker/tokens/vault.py", "from token_broker.grants import tickets  # noqa: F401\n"),
    ],
)
def test_a_planted_wrong_import_fails(copy: Path, file: str, line: str) -> None:
    whole = (copy / file).read_text()
    (copy / file).write_text(whole + "\n\n" + line)
    try:
        done = _lint(copy)
    finally:
        (copy / file).write_text(whole)
    module = file.removesuffix(".py").replace("/", ".")
    assert done.returncode == 1 and module in done.stdout, done.stdout + done.stderr


def test_the_copy_itself_is_clean(copy: Path) -> None:
    done = _lint(copy)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = grimp.build_graph(*ROOMS)
    after: dict[str, set[str]] = {
        m: {i for i in graph.find_modules_directly_imported_by(m) if i in graph.modules} for m in graph.modules
    }
    while leaves := [module for module, imported in after.items() if not imported]:
        for module in leaves:
            del after[module]
        for imported in after.values():
            imported.difference_update(leaves)
    assert not after, f"these import each other: {sorted(after)[:20]}"
