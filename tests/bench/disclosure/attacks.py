"""What all attacks learn together at a node with its rules on."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.disclosure.figure import Figure, at_most
from tests.support import attacks_author, attacks_kinds, attacks_pair, attacks_user  # noqa: F401  # they register themselves
from tests.support.attacks import ATTACKS
from tests.support.disclosure_node import disclosure_node


def figures() -> Iterator[Figure]:
    async def learnt() -> int:
        facts = 0
        with tempfile.TemporaryDirectory() as folder:
            for number, attack in enumerate(ATTACKS):
                async with disclosure_node(Path(folder) / str(number), Path(folder) / "empty.db") as node:
                    facts += len(await attack.program(node))
        return facts

    yield at_most(f"facts-learnt-in-{len(ATTACKS)}-attacks", asyncio.run(learnt()), "facts", 0)
