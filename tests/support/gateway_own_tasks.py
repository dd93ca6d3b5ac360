"""A node's own tasks, which a test executes in its TES's place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_world import Run, World, c4gh, world_fixture  # noqa: F401

FILE = "cohort.vcf.gz.c4gh"


@pytest.fixture(autouse=True)
def waiting(world: World) -> Iterator[None]:
    world.policy(review=True, own_image="node-own@sha256:" + "a" * 64)
    usual, world.sda.files = world.sda.files, {("DS-RC", FILE): c4gh(3000)}
    world.sda.open.add("DS-RC")
    yield
    world.sda.open.discard("DS-RC")
    world.sda.files = usual
    world.policy()


def own_tasks(world: World) -> list[dict[str, Any]]:
    return [task for task in world.tes.tasks.values() if task["tags"].get("gdi-own")]


def execute(world: World, task: dict[str, Any], folder: Path, files: list[Path]) -> None:
    """As a TES does: inputs and outputs at their paths, which here are those of a folder."""
    paths: dict[str, Path] = {}
    for number, one in enumerate(task["inputs"]):
        paths[one["path"]] = folder / f"{number}-{Path(one['path']).name}"
        if one.get("content"):
            paths[one["path"]].write_text(one["content"])
    given = [one["path"] for one in task["inputs"] if one.get("url")]
    for path, file in zip(given, files, strict=True):
        paths[path] = folder / Path(path).relative_to("/gdi/work")
        paths[path].parent.mkdir(exist_ok=True)
        paths[path].write_bytes(file.read_bytes())
    (output,) = task["outputs"]
    paths[output["path"]] = folder / "result.json"
    command = [str(paths.get(word, word)) for word in task["executors"][0]["command"]]
    subprocess.run([sys.executable, *command[1:]], check=True, cwd=folder, timeout=60)
    world.s3.put(output["url"].removeprefix("s3://workspace/"), (folder / "result.json").read_bytes())
    task["state"] = "COMPLETE"
