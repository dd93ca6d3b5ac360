"""The script that adds up in an entry of `gdi workflow init --kind matrix`; what it adds is read as for `moments`."""

GATHER_SUMS = '''\
"""Sums of a number over everybody and over each category, the sum of its squares, and what the node judges them by:
which part of each, and of any combination, the 50 people have who have most, how many people differ from the commonest
value or have other last digits, and how many values there are. These stay.
"""

import json
import sys
from collections import Counter
from math import fsum, lgamma, log
from statistics import median

MODULI = [int(times * 10**power) for power in range(1, 12) for times in (1, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)]


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
        "odd": odd(values),
    }


def odd(values: list[float]) -> int:
    """The fewest people who have not the commonest remainder modulo a round number; 0 where nobody has."""
    found, whole = [], [round(value * 10**9) for value in values]
    for modulus in MODULI:
        if modulus <= max(whole) - min(whole):
            found.append(len(whole) - max(Counter(value % modulus for value in whole).values()))
    return min((one for one in found if one), default=0)


def arrangements(values: list[float]) -> float:
    """log2 of in how many ways the people can have these values."""
    return (lgamma(len(values) + 1) - sum(lgamma(n + 1) for n in Counter(values).values())) / log(2)


def support(groups: dict[str, list[float]]) -> list[int]:
    """The fewest people who have 95 %, and 99.9 %, of the squares of what differs from the middle, of all or of each
    category.
    """
    everybody = [value for values in groups.values() for value in values]
    own = [value - median(values) for values in groups.values() for value in values]
    found = []
    for part in (0.95, 0.999):
        for apart in ([value - median(everybody) for value in everybody], own):
            squares = sorted((one * one for one in apart), reverse=True)
            left, count = part * fsum(squares), 0
            while left > 0:
                left, count = left - squares[count], count + 1
            found.append(count or len(everybody))
    return [min(found[:2]), min(found[2:])]


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
    squares = [value * value for value in everybody]
    square = {"numbers": [number, number], "sum": fsum(squares), "odd": odd(squares)}
    document = {
        "format": "gdi-matrix/1",
        "model": "linear",
        "outcome": number,
        "numbers": [number],
        "categories": [column],
        "people": [[level, len(values)] for level, values in groups.items()],
        "steps": steps(number, everybody),
        "arrangements": {number: arrangements(everybody)},
        "leverage": leverage(groups),
        "support": support(groups),
        "sums": sums,
        "products": [{**square, "products": whole["squares"], "apart": whole["apart"]}],
    }
    with open(out, "w") as file:
        json.dump(document, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''
