"""A workflow's folder is what is digested and sent, so each holds all of its scripts: those that several hold are equal
byte for byte, but for names that are each workflow's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
OWN = {"count.py", "gather.py", "validate.py"}
"""What these do is another thing in each workflow; of two that validate, allele-frequency alone is given slices."""
CONTRACT = ROOT / "gdi" / "contracts" / "variants.py"  # which the scripts carry


def by_name() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list, {CONTRACT.name: [CONTRACT]})
    for file in sorted((ROOT / "workflows").glob("*/scripts/*.py")):
        found[file.name].append(file)
    return {name: files for name, files in found.items() if len(files) > 1}


def contents(files: Iterable[Path]) -> set[bytes]:
    return {file.read_bytes() for file in files}


@pytest.mark.parametrize("name", sorted(by_name().keys() - OWN))
def test_a_script_of_several_workflows_is_the_same_in_each(name: str) -> None:
    files = by_name()[name]
    assert len(contents(files)) == 1, f"copy the right one of {', '.join(str(f.relative_to(ROOT)) for f in files)}"


def test_names_that_are_each_workflows_own_are_of_different_scripts() -> None:
    assert all(len(contents(by_name()[name])) > 1 for name in OWN), "a name that is shared is no exception"
    two = [ROOT / "workflows" / of / "scripts" / "gather.py" for of in ("allele-frequency", "variant-lookup")]
    assert len(contents(two)) == 1, "these two make the same release"
