"""Commands as the documents have them, read from their code blocks and run in a shell: what a test runs is what a
reader types.

A test substitutes names in a table of its own; each command is run, or done in another way that the table names, and
none is left out.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
LASTS = re.compile(r"(umask |export |[A-Z_]+=(\$\(.*\)|\S*)$)")  # what a shell keeps for the commands after it
TIMEOUT = 400  # seconds for one command


@dataclass(frozen=True)
class Block:
    """A fenced code block: under which heading (without its #), its language, its text."""

    heading: str
    language: str
    text: str


def blocks(document: str) -> list[Block]:
    """All code blocks of docs/`document`, in order."""
    found: list[Block] = []
    heading, language, lines = "", "", None
    for line in (DOCS / document).read_text().splitlines():
        if lines is None and line.startswith("#"):
            heading = line.lstrip("#").strip()
        elif lines is None and line.startswith("```"):
            language, lines = line[3:].strip(), []
        elif lines is not None and line.startswith("```"):
            found.append(Block(heading, language, "\n".join(lines) + "\n"))
            lines = None
        elif lines is not None:
            lines.append(line)
    return found


def commands(text: str) -> list[str]:
    """The commands of a block: continued lines, here-documents and loops are one command each; comments are left
    out.
    """
    found: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        parts = [_bare(line)]
        while parts[-1].endswith("\\"):
            parts.append(_bare(next(lines)))
        if mark := re.search(r"<<'?(\w+)'?", parts[-1]):
            while parts[-1] != mark[1]:
                parts.append(next(lines))
        if parts[0].startswith("for "):
            while parts[-1] != "done":
                parts.append(_bare(next(lines)))
        if any(parts):
            found.append("\n".join(parts))
    return found


def _bare(line: str) -> str:
    return re.sub(r"(^|\s+)# .*$", "", line.rstrip())


def under(document: str, heading: str) -> list[list[str]]:
    """The commands of each shell block under a heading of docs/`document`."""
    return [commands(b.text) for b in blocks(document) if b.heading == heading and b.language == "sh"]


def in_row(document: str, first: str) -> list[str]:
    """What stands in backticks in the row of a table that begins with the cell `first`."""
    row = next(line for line in (DOCS / document).read_text().splitlines() if line.startswith(f"| {first} |"))
    return re.findall(r"`([^`]+)`", row)


@dataclass
class Shell:
    """Runs documented commands. `names`: what is another name here; `instead`: the beginning of a command -> what is
    done here in its place.
    """

    folder: Path
    names: Mapping[str, str] = field(default_factory=dict)
    instead: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    before: tuple[str, ...] = ()  # words in front of the shell itself
    _lasting: list[str] = field(default_factory=list)

    def run(self, command: str) -> str:
        """What it printed. AssertionError with what it said where it failed."""
        for beginning, other in self.instead.items():
            if command.startswith(beginning):
                other()
                return ""
        here = command
        for theirs, ours in self.names.items():
            here = here.replace(theirs, ours)
        if LASTS.match(here):
            self._lasting.append(here)
            return ""
        script = "\n".join(["set -euo pipefail", *self._lasting, here])
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8", **self.environment}
        done = subprocess.run(
            [*self.before, "bash", "-c", script],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, (
            f"failed with exit code {done.returncode}:\n{here}\n{(done.stderr or done.stdout).strip()[-3000:]}"
        )
        return done.stdout

    def run_all(self, listed: list[str]) -> None:
        for command in listed:
            self.run(command)
