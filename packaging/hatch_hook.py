"""Fills each wheel of packaging/NAME from the root: version, requirements and licence of its pyproject.toml, and the
rooms that the wheel names. So none of these is written twice.

Two hooks of hatchling (https://hatch.pypa.io/latest/plugins/metadata-hook/custom/ and …/build-hook/custom/), both
loaded by `path = "../hatch_hook.py"`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

ROOT = Path(__file__).resolve().parents[1]
# The page's sources and tools: what is served is its bundle, ui/dist.
LEFT_OUT = {"__pycache__", "node_modules", "src", "package.json", "package-lock.json", "tsconfig.json", "build.mjs"}


def project() -> dict[str, Any]:
    """The root's [project] table."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def requirements(extra: str) -> list[str]:
    """Third-party requirements of one extra of the root ("" is what every room needs), without the extra's own extras,
    which other wheels bring.
    """
    root = project()
    listed: list[str] = root["optional-dependencies"][extra] if extra else root["dependencies"]
    return [line for line in listed if not line.startswith(root["name"])]


def files(room: str) -> Iterator[tuple[Path, str]]:
    """(file, its path in the wheel) of a room, e.g. "gdi/kit" or "plugins/gdi_operators"."""
    folder = ROOT / room
    inside = Path(room.removeprefix("plugins/"))
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and path.suffix != ".pyc" and not LEFT_OUT & set(relative.parts):
            yield path, str(inside / relative)


class Metadata(MetadataHookInterface):
    """Options: `extras`, whose requirements the wheel has; `wheels`, which it needs, of the same version; `optional`,
    the extras that are extras of the wheel too; `readme`, a document that describes it.
    """

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        root = project()
        metadata["version"] = root["version"]
        metadata["requires-python"] = root["requires-python"]
        metadata["license"] = root["license"]
        wheels = [f"{name}=={root['version']}" for name in self.config.get("wheels", [])]
        metadata["dependencies"] = wheels + [r for extra in self.config["extras"] for r in requirements(extra)]
        metadata["optional-dependencies"] = {name: requirements(name) for name in self.config.get("optional", [])}
        described = self.config.get("readme")
        text = (ROOT / described).read_text() if described else f"# {metadata['name']}\n{metadata['description']}\n"
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


class Rooms(BuildHookInterface[Any]):
    """Options: `rooms`, the folders that the wheel carries; `also`, {file: its path in the wheel}."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Names every file: hatchling would copy folders whole, with what lies about in them."""
        carried = {str(path): inside for room in self.config["rooms"] for path, inside in files(room)}
        carried |= {str(ROOT / path): inside for path, inside in self.config.get("also", {}).items()}
        core = self.metadata.core
        home = f"{core.name.replace('-', '_')}-{self.metadata.version}.dist-info"
        carried[str(ROOT / "LICENSE")] = f"{home}/licenses/LICENSE"
        build_data["force_include"].update(carried)
