"""The descriptor of a dataset: what its node's operator says of it in a YAML file. The gateway reads it beside its
policy; analyses read files, columns and bins from it. Its JSON schema is `descriptor.schema.json`, beside this file.
"""

from __future__ import annotations

import datetime
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from gdi.contracts.ids import DatasetClaim, DatasetId, KindName, NodeId, RelativePath
from gdi.contracts.variants import CONTIG
from gdi.kit.models import Frozen

SCHEMA_FILE = Path(__file__).with_name("descriptor.schema.json")
LEAST = 20  # people of a part, by default
MAX_SPLITS = 2

Assembly = Literal["GRCh37", "GRCh38", "T2T-CHM13v2.0"]
Membership = Literal["contract", "public", "sensitive"]
Region = Annotated[str, Field(pattern=rf"^{CONTIG}(:[1-9][0-9]{{0,9}}-[1-9][0-9]{{0,9}})?$", max_length=60)]
Column = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$")]  # a column's name in the sample table
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
MAX_LEVEL = 100  # characters
Level = Annotated[str, Field(min_length=1, max_length=MAX_LEVEL)]  # a value of a category
Title = Annotated[str, Field(min_length=1, max_length=300)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class DataFile(Frozen):
    """A file of the dataset in the archive: `path` below the dataset, ending in `.c4gh`. `regions` that it covers, as
    `CONTIG` or `CONTIG:START-END` (from 1, both ends included); none: everything. `index`: the path of its tabix, CSI
    or BAI file. `served_by`: who gives a region of it, the archive's file or its htsget server,
    which is asked where `regions` are named (decision 878).
    """

    path: RelativePath
    format: Literal["vcf", "bcf", "pgen", "pvar", "psam", "bam", "cram", "table", "other"]
    regions: tuple[Region, ...] = Field(default=(), max_length=10_000)
    index: RelativePath | None = None
    served_by: Literal["file", "htsget"] = "file"


class Sex(Frozen):
    """The column that holds a person's sex, and which of its values mean which."""

    column: Column
    female: Level = "female"
    male: Level = "male"


class Phenotype(Frozen):
    """A column of the sample table that may be asked about.

    `category` and `boolean` have `categories` (of a boolean `false` and `true` unless others are named), `number` and
    `integer` have `minimum` and `maximum` in `unit`, and where they may be shown as a histogram `bins`: rising edges,
    each bin with its lower edge and without its upper one, but the last has both.
    """

    column: Column
    type: Literal["number", "integer", "category", "boolean"]
    title: Title | None = None
    unit: Annotated[str, Field(max_length=40)] | None = None
    minimum: Number | None = None
    maximum: Number | None = None
    categories: tuple[Level, ...] = Field(default=(), max_length=1000)
    bins: tuple[Number, ...] = Field(default=(), max_length=1001)

    @property
    def levels(self) -> tuple[str, ...]:
        """Its categories; none of a number."""
        return self.categories or (("false", "true") if self.type == "boolean" else ())

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.type in ("number", "integer"):
            if self.categories:
                raise ValueError("categories are of type category or boolean: a number has bins")
            if self.minimum is None or self.maximum is None or not self.minimum < self.maximum:
                raise ValueError("a number needs minimum and maximum, the first smaller than the second")
            if self.bins and (len(self.bins) < 2 or any(a >= b for a, b in pairwise(self.bins))):
                raise ValueError("bins are at least two edges that rise")
            if self.bins and (self.bins[0] < self.minimum or self.bins[-1] > self.maximum):
                raise ValueError("bins lie between minimum and maximum")
        elif self.bins or self.minimum is not None or self.maximum is not None or self.unit:
            raise ValueError("unit, minimum, maximum and bins are of a number")
        if self.type == "category" and len(self.categories) < 2:
            raise ValueError("a category needs at least two categories")
        if len(set(self.categories)) != len(self.categories):
            raise ValueError("a category is named twice")
        return self


class Derived(Phenotype):
    """What a workflow computes of a person's genotypes, and may be asked about like a phenotype: `missingness` in bins.
    `column`: its name, in no sample table. `score`: a sum over many variants (kind `moments` only).
    """

    score: bool = False

    @model_validator(mode="after")
    def _number(self) -> Self:
        if self.score and self.type != "number":
            raise ValueError("a score is of type number")
        return self


class SampleTable(Frozen):
    """The table of people: a line a person, in the archive as Crypt4GH (`file` ends in `.c4gh`). `person` is the column
    of ids that are equal for the same person in all datasets of the node; `sample` the one of the genotype file's
    names, where that is another.
    """

    file: RelativePath
    format: Literal["parquet", "tsv"]
    person: Column
    sample: Column | None = None
    sex: Sex | None = None
    country: Column | None = None
    phenotypes: tuple[Phenotype, ...] = Field(default=(), max_length=10_000)

    @property
    def columns(self) -> frozenset[str]:
        """Columns that splits, variable sets and tables may name: not the ids."""
        named = {phenotype.column for phenotype in self.phenotypes}
        return frozenset(
            named | ({self.country} if self.country else set()) | ({self.sex.column} if self.sex else set())
        )

    def phenotype(self, column: str) -> Phenotype | None:
        return next((one for one in self.phenotypes if one.column == column), None)

    @model_validator(mode="after")
    def _once(self) -> Self:
        names = [one.column for one in self.phenotypes]
        names += [name for name in (self.country, self.sex.column if self.sex else None) if name]
        if len(set(names)) != len(names):
            raise ValueError("a column is described twice")
        if {self.person, self.sample} & set(names):
            raise ValueError("the columns of ids are no phenotypes")
        return self


class Overlap(Frozen):
    """A dataset elsewhere that has some of the same people."""

    dataset: DatasetId
    node: NodeId | None = None


class GenotypeFilter(Frozen):
    """Which genotypes of the files count; every other is as if it had not been called. An epoch has the filter that the
    descriptor had when it opened, and another filter is another epoch. `passed`: only of lines whose FILTER is PASS.
    `least_quality`, `least_depth`: GQ and DP, in the units of VCF; a genotype without the number does not count.
    `ploidy`: only of so many copies.
    """

    passed: bool = False
    least_quality: float | None = Field(default=None, gt=0, le=1000)
    least_depth: int | None = Field(default=None, ge=1, le=1_000_000)
    ploidy: Literal[1, 2] | None = None

    @property
    def words(self) -> str:
        """What counts, for people."""
        parts = [
            "lines whose FILTER is PASS" if self.passed else "",
            f"GQ of at least {self.least_quality:g}" if self.least_quality is not None else "",
            f"DP of at least {self.least_depth}" if self.least_depth is not None else "",
            f"ploidy {self.ploidy}" if self.ploidy is not None else "",
        ]
        return "genotypes with " + ", ".join(part for part in parts if part)

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not (self.passed or self.least_quality or self.least_depth or self.ploidy):
            raise ValueError("filter: it filters nothing; leave it out")
        return self


class CommitteeDecision(Frozen):
    """The access committee's written word that frequencies of this dataset are public."""

    by: Title
    date: datetime.date
    document: Title | None = None


class Descriptor(Frozen):
    """`dataset`: an exact id, or a prefix of ids that ends in `*`, for datasets that differ in nothing said here.

    `membership` has no default: a dataset without it is not served. `contract`: results go to users who hold a visa,
    and to their project. `public`: to anyone; it needs `decision`. `sensitive`: with a budget for each person.

    `absent`: a site that the files lack is one where everybody has the `reference`, or `unknown`. `classes`: genotype
    classes may leave where each is at least the floor. `zero: show` tells that nobody carries an allele; it needs
    `membership: public` and no splits.

    Who the people are: `samples`, a table, or `identifiers: one-per-person`, the operator's word that each sample of
    the files is a person of its own, named so in all datasets. With neither, one epoch of one dataset is answered.

    `disjoint`: the operator's word that nobody of it is in another dataset of the node. Without that word and without
    an epoch, which would show who is, a dataset is answered only at a node that describes nothing else.

    `derived`: numbers and categories that workflows compute of genotypes, with the bins in which they may be shown.

    `whole_tables`: a cross table leaves whole, or only its columns do, each whole or not at all: who replays how cells
    were chosen learns nothing. Else cells are withheld around small ones, which tells more. None: of `sensitive` only.

    `run_share`: how much of the budget of `sensitive` one run may take. `min_difference`: the fewest people by whom two
    cohorts may differ.

    `filter`: which genotypes count, from the next epoch on.

    `splits` (at most two columns), `variable_sets` (columns of regressions, by name) and `tables` (columns of cross
    tables, by name) are what an epoch is opened with. `kinds`: the kinds of release that it may be asked for; empty:
    all that the node's policy allows. `use`: the data use terms, as DUO codes.
    """

    dataset: DatasetClaim
    title: Title | None = None
    assembly: Assembly
    membership: Membership
    decision: CommitteeDecision | None = None
    absent: Literal["reference", "unknown"] = "unknown"
    classes: bool = False
    zero: Literal["hide", "show"] = "hide"
    files: tuple[DataFile, ...] = Field(default=(), max_length=100_000)
    samples: SampleTable | None = None
    derived: tuple[Derived, ...] = Field(default=(), max_length=1000)
    identifiers: Literal["one-per-person"] | None = None
    overlaps: tuple[Overlap, ...] = Field(default=(), max_length=1000)
    disjoint: bool = False
    whole_tables: bool | None = None
    filter: GenotypeFilter | None = None
    run_share: float = Field(default=0.1, gt=0, le=1)
    min_difference: int = Field(default=LEAST, ge=2, le=1_000_000)
    splits: tuple[Column, ...] = Field(default=(), max_length=MAX_SPLITS)
    variable_sets: dict[Name, tuple[Column, ...]] = Field(default_factory=dict, max_length=1000)
    tables: dict[Name, tuple[Column, ...]] = Field(default_factory=dict, max_length=1000)
    kinds: tuple[KindName, ...] = Field(default=(), max_length=100)
    use: tuple[Annotated[str, Field(pattern=r"^DUO:[0-9]{7}$")], ...] = Field(default=(), max_length=50)

    @property
    def exact(self) -> bool:
        """Whether it is of one dataset, and not of all whose id begins so."""
        return not self.dataset.endswith("*")

    def is_of(self, dataset: str) -> bool:
        return dataset == self.dataset if self.exact else dataset.startswith(self.dataset[:-1])

    def may_be_asked(self, kind: str) -> bool:
        return not self.kinds or kind in self.kinds

    @property
    def tables_whole(self) -> bool:
        return self.membership == "sensitive" if self.whole_tables is None else self.whole_tables

    @property
    def lists_people(self) -> bool:
        """Whether it says how people are told from each other."""
        return self.samples is not None or self.identifiers is not None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.membership == "public" and self.decision is None:
            raise ValueError("membership: public needs decision, the access committee's written word (by, date)")
        if self.membership != "public" and self.decision is not None:
            raise ValueError("decision is of membership: public")
        if self.zero == "show" and (self.membership != "public" or self.splits):
            raise ValueError("zero: show needs membership: public and no splits")
        if not self.exact and (self.samples or self.splits or self.overlaps or self.filter):
            raise ValueError("a descriptor of many datasets (`*`) names no people: give those a file of their own")
        known = self.samples.columns if self.samples else frozenset()
        made = [one.column for one in self.derived]
        if len(set(made)) != len(made) or known & set(made):
            raise ValueError("derived: a name is there twice, or is a column of the sample table")
        for field, names in (("splits", self.splits), *self.variable_sets.items(), *self.tables.items()):
            for name in names:
                if name not in known:
                    raise ValueError(f"{field} names the column {name}, which samples does not describe")
            if len(set(names)) != len(names) or (field != "splits" and not names):
                raise ValueError(f"{field}: each column once, and at least one")
        for column in self.splits:
            phenotype = self.samples.phenotype(column) if self.samples else None
            if phenotype is not None and not phenotype.levels and not phenotype.bins:
                raise ValueError(f"splits names {column}, a number without bins: its values are no levels")
        return self


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the YAML file."""
    made = TypeAdapter(Descriptor).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "GDI dataset descriptor", **made}


def schema_text() -> str:
    """What `descriptor.schema.json` holds."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def level_of(phenotype: Phenotype, value: str) -> str | None:
    """The category or bin (`LOW..HIGH`) that a value of the sample table belongs to. None where it has none: people
    without a value, or with one that the descriptor does not name, are in no level.
    """
    if phenotype.levels:
        text = value.lower() if phenotype.type == "boolean" and not phenotype.categories else value
        return text if text in phenotype.levels else None
    try:
        number = float(value)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    last = len(phenotype.bins) - 2
    for place, (low, high) in enumerate(pairwise(phenotype.bins)):
        if low <= number < high or (place == last and number == high):
            return f"{low:g}..{high:g}"
    return None
