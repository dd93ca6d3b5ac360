"""The script that adds up in an entry of `gdi workflow init --kind matrix`; what it adds is read as for `moments`."""

GATHER_SUMS = '''\
"""Sums of a number over everybody and over each category, the sum of its squares, and what the node judges them by:
which part of each, and of any combination, the 50 people have who have most, how many people differ from the commonest
value, and how many values there are. These stay.
"""

import json
import sys
from collections import Counter
from math import fsum


def largest(parts: list[float]) -> list[float]:
    total, sums, found = fsum(parts) or 1.0, 0.0, []
    for one in sorted(parts, reverse=True)[:50]:
        sums += one
        found.append(min(1.0, sums / total))
    return found


def facts(values: list[float]) -> dict:
    mean, seen = fsum(values) / len(values), Counter(values)
    return {
        "people": len(values),
        "sum": fsum(values),
        "sums": largest([abs(value) for value in values]),
        "squares": largest([(value - mean) ** 2 for value in values]),
        "apart": len(values) - max(seen.values()),
        "values": len(seen),
    }


def steps(number: str, values: list[float]) -> dict:
    """The step of which all values are whole multiples: the coarser it is, the less a sum tells."""
    for decimals in range(7):
        scaled = [value * 10**decimals for value in values]
        if all(abs(value - round(value)) < 1e-6 for value in scaled):
            return {number: 10.0**-decimals}
    return {}


def leverage(groups: dict[str, list[float]]) -> list[float]:
    """The sum of the 1, 2, ... largest leverages, at most 1. One number: what differs from its category's mean."""
    means = {level: fsum(values) / len(values) for level, values in groups.items()}
    apart = [((value - means[level]) ** 2, len(values)) for level, values in groups.items() for value in values]
    total, sums, found = fsum(square for square, _ in apart) or 1.0, 0.0, []
    for one in sorted((square / total + 1 / people for square, people in apart), reverse=True)[:50]:
        sums += one
        found.append(min(1.0, sums))
    return found


def main(out: str, *rest: str) -> None:
    *files, column, number = rest
    groups: dict[str, list[float]] = {}
    for name in files:
        with open(name) as file:
            for level, value in json.load(file):
                groups.setdefault(level, []).append(value)
    everybody = [value for values in groups.values() for value in values]
    whole = facts(everybody)
    sums = [{"number": number, **whole}]
    sums += [{"number": number, "category": column, "level": level, **facts(of)} for level, of in groups.items()]
    square = {"numbers": [number, number], "sum": fsum(value * value for value in everybody)}
    document = {
        "format": "gdi-matrix/1",
        "model": "linear",
        "outcome": number,
        "numbers": [number],
        "categories": [column],
        "people": [[level, len(values)] for level, values in groups.items()],
        "steps": steps(number, everybody),
        "leverage": leverage(groups),
        "sums": sums,
        "products": [{**square, "products": whole["squares"], "apart": whole["apart"]}],
    }
    with open(out, "w") as file:
        json.dump(document, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''
