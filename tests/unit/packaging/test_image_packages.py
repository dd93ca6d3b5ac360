"""Each image holds every package of ours that its code imports: found by the imports themselves, without an image. That
the images run is tests/kubernetes/test_images.py's to show.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.kubernetes import images

ROOT = images.ROOT
ENVIRONMENT: ModuleType = images.environment()
OURS = {f"gdi.{path.parent.name}" for path in (ROOT / "gdi").glob("*/__init__.py")} | {
    path.parent.name for place in (ROOT, ROOT / "plugins") for path in place.glob("*/__init__.py")
}


def folder_of(package: str) -> Path:
    path = package.replace(".", "/")
    return next(place / path for place in (ROOT, ROOT / "plugins") if (place / path / "__init__.py").is_file())


def imported(file: Path) -> Iterator[str]:
    """The packages of ours that a module names, anywhere in it; not those that only its types name."""
    tree = ast.parse(file.read_text())
    types = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and ast.unparse(test.test).endswith("TYPE_CHECKING")
        for node in ast.walk(test)
    }
    for node in ast.walk(tree):
        if id(node) in types:
            continue
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        for name in names:
            yield from (part for part in (name.split(".")[0], ".".join(name.split(".")[:2])) if part in OURS - {"gdi"})


@pytest.mark.parametrize("target", sorted(ENVIRONMENT.PACKAGES))
def test_an_image_holds_what_its_code_imports(target: str) -> None:
    held = set(ENVIRONMENT.PACKAGES[target])
    left_out = {ROOT / path for path in ENVIRONMENT.LEFT_OUT.get(target, [])}
    absent = {
        f"{file.relative_to(ROOT)}: {name}"
        for package in held
        for file in folder_of(package).rglob("*.py")
        if file not in left_out
        for name in imported(file)
        if name not in held
    }
    assert not absent, "packaging/images/environment.py, PACKAGES"
