"""Which people a run asks about: an epoch's cohort, never an expression over people. A run names it in its conf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError

from gdi.contracts.descriptor import Column, Descriptor, GenotypeFilter, Level, Name, Phenotype
from gdi.contracts.ids import DatasetId, Digest, KindName, WorkflowName
from gdi.kit.models import Frozen, mistakes

PARAMETER = "cohort"  # of a run's conf
EpochNumber = Annotated[int, Field(ge=1, le=1_000_000)]
CohortPart = Literal["level", "variables", "table"]  # of an epoch's people
PARTS: tuple[CohortPart, ...] = get_args(CohortPart)


class WrongCohortError(ValueError):
    """A conf's `cohort` names none."""


class CohortChoice(Frozen):
    """`epochs`: the number of a dataset's epoch; the newest where it is not named. Of it the whole, or the people of a
    `level` of its `split`, or those who are complete for its `variables` or its `table`, by name.
    """

    epochs: dict[DatasetId, EpochNumber] = Field(default_factory=dict, max_length=1000)
    split: Column | None = None
    level: Level | None = None
    variables: Name | None = None
    table: Name | None = None

    @property
    def parts(self) -> list[CohortPart]:
        """What of an epoch's people it names: nothing for the whole; more than one is no cohort."""
        return [part for part in PARTS if getattr(self, part) is not None]

    @property
    def part(self) -> CohortPart | None:
        """What of an epoch's people it names; None: the whole."""
        return next(iter(self.parts), None)

    @property
    def written(self) -> dict[str, Any]:
        """As a conf has it: only what is named."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def words(self) -> str:
        """The part, as a person writes it and as a node's ledger calls it: `sex=female`, `variables:weight`; empty for
        the whole.
        """
        if self.part == "level":
            return f"{self.split}={self.level}"
        return f"{self.part}:{self.variables or self.table}" if self.part else ""

    def with_epochs(self, numbers: Mapping[DatasetId, EpochNumber]) -> CohortChoice:
        """The same, of the epochs with these numbers where it names none."""
        return self.model_copy(update={"epochs": {**numbers, **self.epochs}})


def chosen(value: object) -> CohortChoice:
    """A run's parameter `cohort`: an object; None is everybody of the newest epoch. WrongCohortError."""
    if value is None:
        return CohortChoice()
    try:
        found = CohortChoice.model_validate(value)
    except ValidationError as error:
        raise WrongCohortError(
            f'{PARAMETER} must be an object such as {{"split": "sex", "level": "female"}}: {mistakes(error)}'
        ) from None
    if (found.split is None) != (found.level is None):
        raise WrongCohortError(f"{PARAMETER} names half of a level: a split needs its level, and a level its split")
    if len(found.parts) > 1:
        raise WrongCohortError(f"{PARAMETER} names several: it is one level, one variable set or one table")
    return found


class EpochCohorts(Frozen):
    """What a run may name of an open epoch: the levels of each split, variable sets and tables. Nothing of it says how
    many people there are. `filter`: which genotypes count; all where it is None.
    """

    number: EpochNumber
    splits: dict[Column, tuple[Level, ...]] = Field(default_factory=dict, max_length=10)
    variables: tuple[Name, ...] = Field(default=(), max_length=1000)
    tables: tuple[Name, ...] = Field(default=(), max_length=1000)
    # Not known to brokers before version 0.3.
    filter: GenotypeFilter | None = Field(default=None, exclude_if=lambda filter: filter is None)

    @property
    def choices(self) -> list[CohortChoice]:
        """Every part of it, without the epoch's number."""
        found = [CohortChoice(split=name, level=level) for name, levels in self.splits.items() for level in levels]
        found += [CohortChoice(variables=name) for name in self.variables]
        return found + [CohortChoice(table=name) for name in self.tables]


class PeopleTable(Frozen):
    """How the sample table tells who is in a cohort. `person`: the column that names people as the genotype files do;
    `phenotypes`: of the columns that splits, variable sets and tables name, those that are described by their values.
    """

    person: Column
    format: Literal["parquet", "tsv"]
    phenotypes: tuple[Phenotype, ...] = ()
    variable_sets: dict[Name, tuple[Column, ...]] = Field(default_factory=dict)
    tables: dict[Name, tuple[Column, ...]] = Field(default_factory=dict)

    @classmethod
    def of(cls, descriptor: Descriptor) -> PeopleTable | None:
        """None where the dataset has no sample table, or no cohort but the whole."""
        samples = descriptor.samples
        columns = set(descriptor.splits).union(*descriptor.variable_sets.values(), *descriptor.tables.values())
        if samples is None or not columns:
            return None
        return cls(
            person=samples.sample or samples.person,
            format=samples.format,
            phenotypes=tuple(one for one in samples.phenotypes if one.column in columns),
            variable_sets=descriptor.variable_sets,
            tables=descriptor.tables,
        )


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
