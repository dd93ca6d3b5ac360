"""The wheels hold every room once, need each other only along the arrows, and declare what the whole declares."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.wheels import ROOT, WHEELS

HERE = ROOT / "packaging"
LOCKS = (ROOT / "requirements.lock", HERE / "images" / "requirements.lock")
WHOLE: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
OF: dict[str, dict[str, Any]] = {name: tomllib.loads((HERE / name / "pyproject.toml").read_text()) for name in WHEELS}
ALIAS = "plugins/gdi_workflows"  # the whole distribution's name as a package; the provider's wheel has its own


def rooms(name: str) -> list[str]:
    found: list[str] = OF[name]["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["rooms"]
    return found


def needed(name: str) -> set[str]:
    """The wheels that a wheel needs, by and by."""
    listed = OF[name]["tool"]["hatch"]["metadata"]["hooks"]["custom"].get("wheels", [])
    direct = {wheel.partition("[")[0] for wheel in listed}
    return direct | {further for wheel in direct for further in needed(wheel)}


def module(room: str) -> str:
    return room.removeprefix("plugins/").replace("/", ".")


def test_every_room_is_in_exactly_one_wheel() -> None:
    top = [
        room for room in WHOLE["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] if room not in ("gdi", ALIAS)
    ]
    ours = {f"gdi/{path.name}" for path in (ROOT / "gdi").iterdir() if (path / "__init__.py").exists()} | set(top)
    carried = [room for name in WHEELS for room in rooms(name)]
    assert sorted(carried) == sorted(ours)


@pytest.mark.parametrize("name", WHEELS)
def test_a_wheel_imports_only_its_own_rooms_and_those_of_wheels_that_it_needs(name: str) -> None:
    all_rooms = {module(room) for wheel in WHEELS for room in rooms(wheel)}
    allowed = {module(room) for wheel in {name} | needed(name) for room in rooms(wheel)}
    wrong = []
    for room in rooms(name):
        for file in (ROOT / room).rglob("*.py"):
            for imported in imports(file):
                theirs = next((r for r in all_rooms if f"{imported}.".startswith(f"{r}.")), None)
                if theirs and theirs not in allowed:
                    wrong.append(f"{file.relative_to(ROOT)}: {imported}")
    assert not wrong


def imports(file: Path) -> list[str]:
    """What a file imports by full name, within functions too."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def test_commands_and_entry_points_are_those_of_the_whole() -> None:
    """What Airflow, a shell or a registry of ours finds by name is found whichever way it was installed."""
    merged: dict[str, dict[str, str]] = {}
    for name in WHEELS:
        project = OF[name]["project"]
        for group, entries in {"scripts": project.get("scripts", {}), **project.get("entry-points", {})}.items():
            for key, value in entries.items():
                assert merged.setdefault(group, {}).setdefault(key, value) == value
    whole = WHOLE["project"]
    assert merged == {"scripts": whole["scripts"], **whole["entry-points"]}


def test_no_wheel_writes_down_what_the_root_has() -> None:
    for name in WHEELS:
        project = OF[name]["project"]
        assert project["name"] == name
        assert not {"version", "dependencies", "requires-python", "license"} & set(project)
        extras = OF[name]["tool"]["hatch"]["metadata"]["hooks"]["custom"]["extras"]
        assert set(extras) <= {"", *WHOLE["project"]["optional-dependencies"]}


def test_images_and_wheels_are_built_by_the_same_hatchling() -> None:
    found = {re.findall(r"^hatchling==(\S+)", file.read_text(), re.MULTILINE)[0] for file in LOCKS}
    assert len(found) == 1, found
