"""One line of the table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """`value` in `unit`; `ok` where it meets `target`, or where it has none."""

    name: str
    value: float
    unit: str
    target: str = "no target"
    ok: bool = True

    def line(self) -> str:
        return f"{self.name} {self.value:.4g} {self.unit} ({self.target}) {'ok' if self.ok else 'short'}"


def at_most(name: str, value: float, unit: str, most: float) -> Figure:
    return Figure(name, value, unit, f"at most {most:g}", value <= most)


def at_least(name: str, value: float, unit: str, least: float) -> Figure:
    return Figure(name, value, unit, f"at least {least:g}", value >= least)
