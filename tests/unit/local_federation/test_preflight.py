"""A federation that cannot start says so before it starts anything, and how to mend it."""

from __future__ import annotations

from pathlib import Path

from gdi.local_federation import preflight


def test_outside_a_checkout_the_first_finding_says_what_is_missing(tmp_path: Path) -> None:
    """`gdi` of a wheel has neither DAGs nor workflows."""
    (tmp_path / "dags").mkdir()
    found = preflight._checkout(tmp_path)
    assert found and "has no plugins, workflows" in found.what and "make demo" in found.mend
    assert preflight._checkout() is None
