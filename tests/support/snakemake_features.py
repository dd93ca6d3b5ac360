"""The workflow that uses every feature of Snakemake, run once."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.bare_rig import IMAGE, Bare, bare  # noqa: F401

FEATURES = Path(__file__).parent / "features"


@dataclass
class Run:
    code: int
    said: str
    files: dict[str, bytes]
    tasks: list[dict[str, Any]]


def workflow(folder: Path) -> Path:
    shutil.copytree(FEATURES, folder, dirs_exist_ok=True)
    return folder


def run(bare: Bare, folder: Path, *more: str, timeout: float = 200) -> Run:
    prefix = bare.prefix()
    code, said = bare.run(folder, prefix, "--tes-auth-image", IMAGE, "--config", "word=w", *more, timeout=timeout)
    return Run(code, said, {path: bare.get(prefix, path) for path in bare.files(prefix)}, bare.of_prefix(prefix))


@pytest.fixture(scope="module")
def everything(bare: Bare, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All features at once, in one workflow."""
    done = run(bare, workflow(tmp_path_factory.mktemp("features")))
    assert done.code == 0, done.said
    return done
