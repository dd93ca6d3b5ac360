"""What is known of a job, declared once: its events carry it, the broker's table stores it, its list and the Jobs tab
show it.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from gdi.contracts.ids import DatasetId, Label, Text
from gdi.contracts.task_errors import ErrorClass
from gdi.kit.models import Strict

JobState = Literal["planned", "submitted", "queued", "running", "done", "failed", "cancelled"]
JOB_STATES: tuple[JobState, ...] = get_args(JobState)


class UntilDone:
    """Marks a fact of a job that explains why it is where it is. A job that is done forgets it."""


class JobFacts(Strict):
    """Each is None, or empty, where nobody reported it. `task`: the TES task's id at the node's gateway. `tries`: which
    try this is, from 0. `cpu_seconds` and `memory_bytes` (peak): where the job's TES measures them.

    A new field needs a revision of the broker's database and, to be seen, an entry in the Jobs tab's `facts.tsx`.
    """

    wildcards: dict[Label, Label] = Field(default_factory=dict, max_length=50)
    task: Label | None = None
    tries: int | None = Field(default=None, ge=0)
    cpu_seconds: float | None = Field(default=None, ge=0)
    memory_bytes: int | None = Field(default=None, ge=0, le=2**53)
    message: Annotated[Text | None, UntilDone()] = None
    error_class: Annotated[ErrorClass | None, UntilDone()] = None
    exit_code: Annotated[int | None, UntilDone()] = None
    line: Annotated[Annotated[int, Field(ge=0)] | None, UntilDone()] = None
    dataset: Annotated[DatasetId | None, UntilDone()] = None


def facts(*, until_done: bool) -> tuple[str, ...]:
    """The names of the facts that a job that is done forgets, or keeps."""
    marked = {name for name, f in JobFacts.model_fields.items() if any(isinstance(m, UntilDone) for m in f.metadata)}
    return tuple(name for name in JobFacts.model_fields if (name in marked) is until_done)
