"""How a bench says its figures in sentences, and runs its parts in one process: broker, federation, gateway."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence


def figure(text: str, good: bool = True) -> bool:
    """Prints it; whether it is good."""
    print(f"{'ok   ' if good else 'SHORT'} {text}", flush=True)
    return good


def exit_code(parts: Mapping[str, Callable[[], bool]], names: Sequence[str]) -> int:
    """Runs the named parts, or all: 1 where a figure was short of its target."""
    return 0 if all([parts[name]() for name in names or parts]) else 1
