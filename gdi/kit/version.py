"""Which of our distributions is installed, and its version. The version itself stands in pyproject.toml alone."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

WHOLE = "gdi-workflows"  # development and images: all rooms as one distribution


def installed(wheel: str) -> tuple[str, str]:
    """(distribution, version) of `wheel`, or of the whole system where that is installed instead of its wheels. A tree
    that was copied without metadata gives (WHOLE, "0").
    """
    for name in (wheel, WHOLE):
        try:
            return name, version(name)
        except PackageNotFoundError:
            continue
    return WHOLE, "0"
