"""Which people a run asks about: an epoch's cohort, never an expression over people."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gdi.contracts.descriptor import Column, Level, Name
from gdi.contracts.ids import DatasetId, Digest, KindName, WorkflowName
from gdi.kit.models import Frozen

EpochNumber = Annotated[int, Field(ge=1, le=1_000_000)]


class CohortChoice(Frozen):
    """`epochs`: the number of a dataset's epoch; the newest where it is not named. Of it the whole, or the people of a
    `level` of its `split`, or those who are complete for its `variables` or its `table`, by name.
    """

    epochs: dict[DatasetId, EpochNumber] = Field(default_factory=dict, max_length=1000)
    split: Column | None = None
    level: Level | None = None
    variables: Name | None = None
    table: Name | None = None


class AdmissionQuestion(Frozen):
    """What a run is about to ask of a node: whether it may is known before anything runs. `kinds`: of its releases."""

    workflow: WorkflowName
    digest: Digest
    datasets: tuple[DatasetId, ...] = Field(min_length=1, max_length=1000)
    kinds: tuple[KindName, ...] = Field(default=(), max_length=100)
    cohort: CohortChoice = CohortChoice()


class AdmissionIntent(Frozen):
    """`POST /runs/{run}/admission`: the same of a run, whose token says the rest."""

    kinds: tuple[KindName, ...] = Field(default=(), max_length=100)
    cohort: CohortChoice = CohortChoice()


class AdmissionAnswer(Frozen):
    """The answer where it may."""

    admitted: bool = True
