"""`python -m tests.bench.disclosure [PART …]`: prints `NAME VALUE UNIT (target) ok|short`; exit code 1 where a figure
is short. Parts: attacks, membership, small-nodes, large-nodes, size, livez.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from tests.bench.disclosure import attacks, livez, membership, nodes, size
from tests.bench.disclosure.figure import Figure

PARTS: dict[str, Callable[[], Iterator[Figure]]] = {
    "attacks": attacks.figures,
    "membership": membership.figures,
    "small-nodes": nodes.small,
    "large-nodes": nodes.large,
    "size": size.figures,
    "livez": livez.figures,
}


def main(names: list[str]) -> int:
    short = 0
    for name in names or list(PARTS):
        for figure in PARTS[name]():
            print(figure.line(), flush=True)
            short += not figure.ok
    return int(short > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
