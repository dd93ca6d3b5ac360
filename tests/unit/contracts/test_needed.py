"""Who must answer, and for how long the others are waited for."""

from __future__ import annotations

import pytest

from gdi.contracts import needed


def test_a_run_says_how_long_it_waits_for_nodes_that_it_does_not_need() -> None:
    assert needed.waited_until(needed.read({"at_least": 2, "within": 3600}), 1000.0) == 4600.0
    for never in (None, "all", ["node-a"], {"at_least": 2}):
        assert needed.waited_until(needed.read(never), 1000.0) is None
    for bad in ({"at_least": 2, "within": 0}, {"at_least": 2, "within": 6e6}, {"within": 5}):
        with pytest.raises(ValueError, match="within"):
            needed.read(bad)
