"""The cases of tests/cases/snakemake: small workflows with what must be stored in the end, or what a failed run must
say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.bare_rig import Bare

FOLDER = Path(__file__).parents[1] / "cases" / "snakemake"
NO_CASES = "published.yaml"  # a list of what `make nightly-workflows` fetches


@dataclass(frozen=True)
class Case:
    """`kind` is the number of its kind in docs/compatibility.md; the fields are those of the files."""

    name: str
    kind: int
    files: dict[str, Any]
    bucket: dict[str, str] = field(default_factory=dict)
    args: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    stored: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    fails: list[str] = field(default_factory=list)

    def lay_out(self, folder: Path) -> Path:
        """Writes the case's files below `folder`."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.write_text(content)
            elif "link" in content:
                path.symlink_to(content["link"])
            elif "program" in content:
                path.write_text(content["program"])
                path.chmod(0o755)
            else:
                path.write_text(content["text"] + content["then"]["text"] * content["then"]["times"] + "\n")
        return folder

    def fill(self, bare: Bare, prefix: str) -> None:
        """Puts the case's objects into the workspace."""
        for name, content in self.bucket.items():
            bare.put(prefix, name, content.encode())

    def check(self, bare: Bare, prefix: str, code: int, output: str) -> None:
        """Holds the run's end against what the case expects."""
        if self.fails:
            assert code != 0, output
            flat = " ".join(output.split())
            assert all(word in flat for word in self.fails), output
            assert "Traceback" not in output, output
        else:
            assert code == 0, output
        found = {name: bare.get(prefix, name).decode() for name in self.stored if name in bare.files(prefix)}
        assert found == self.stored, output
        assert not set(self.absent) & set(bare.files(prefix)), output


def cases() -> list[Case]:
    """All cases, in the order of the files."""
    return [
        Case(name, **fields)
        for file in sorted(FOLDER.glob("*.yaml"))
        if file.name != NO_CASES
        for name, fields in yaml.safe_load(file.read_text()).items()
    ]
