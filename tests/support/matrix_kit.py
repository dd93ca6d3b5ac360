"""What the workflow `regression` writes of people for the kind `matrix`: its own script's arithmetic."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tests.support.modules import module_at

ENTRY = Path(__file__).parents[2] / "workflows" / "regression"


@cache
def gather() -> ModuleType:
    """The workflow's script as a module."""
    return module_at(ENTRY / "scripts" / "gather.py")


def matrix_file(
    people: Sequence[Mapping[str, Any]], outcome: str, numbers: Sequence[str] = (), categories: Sequence[str] = ()
) -> bytes:
    """`gdi-matrix/1` of people by column."""
    levels = [[str(one[column]) for column in categories] for one in people]
    values = np.array([[float(one[name]) for name in (outcome, *numbers)] for one in people])
    found = gather().release(outcome, list(numbers), list(categories), levels, values)
    return json.dumps(found).encode()
