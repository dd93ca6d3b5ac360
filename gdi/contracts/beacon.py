"""Which nodes have carriers of a variant: the question, and what each node's public Beacon (GA4GH Beacon v2) answers.

Source: github.com/ga4gh-beacon/beacon-v2, as GDI's User Portal and mini-node speak it: `POST /g_variants`, whose result
sets are datasets with `frequencyInPopulations`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gdi.contracts.ids import DatasetId, NodeId
from gdi.kit.models import Strict

Assembly = Literal["GRCh37", "GRCh38"]
Bases = Annotated[str, Field(pattern="^[ACGTN]+$", max_length=1000)]
BeaconState = Literal["answered", "missing", "no-beacon"]
MAX_DATASETS = 1000  # of one node's answer


class VariantQuestion(Strict):
    """A variant as a VCF has it: `position` counts from 1."""

    assembly: Assembly
    chromosome: Annotated[str, Field(pattern="^([1-9]|1[0-9]|2[0-2]|X|Y|M)$")]
    position: Annotated[int, Field(ge=1, le=2**31 - 1)]
    ref: Bases
    alt: Bases

    def query(self) -> dict[str, Any]:
        """The Beacon's request; positions count from 0 there. Of each dataset its record, where it has the variant."""
        snp = len(self.ref) == len(self.alt) == 1
        return {
            "meta": {"apiVersion": "2.0"},
            "query": {
                "requestedGranularity": "record",
                "includeResultsetResponses": "HIT",
                "pagination": {"skip": 0, "limit": MAX_DATASETS},
                "requestParameters": {
                    "assemblyId": self.assembly,
                    "referenceName": self.chromosome,
                    "start": [self.position - 1],
                    "referenceBases": self.ref,
                    "alternateBases": self.alt,
                    "variantType": "SNP" if snp else "INDEL",
                },
            },
        }


class DatasetCarriers(Strict):
    """A dataset with carriers: copies of the allele among those called, over its populations, where the Beacon tells.
    `usable`: the federation knows it at this node, so a run may name it.
    """

    id: Annotated[str, Field(max_length=300)]
    allele_count: int | None = None
    allele_number: int | None = None
    usable: bool


class BeaconAnswer(Strict):
    """One node's. `missing`: its Beacon did not answer in time, or not as a Beacon; `reason` says why."""

    node: NodeId
    state: BeaconState
    reason: str = ""
    seconds: float = 0
    datasets: list[DatasetCarriers] = Field(default_factory=list, max_length=MAX_DATASETS)


class VariantAnswer(Strict):
    """All nodes', by id; `datasets`: those with carriers that a run may name, as `POST /v1/grants` takes them."""

    nodes: list[BeaconAnswer]
    datasets: list[DatasetId]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Population(_Lenient):
    alleleCount: float | None = None
    alleleNumber: float | None = None


class _Frequency(_Lenient):
    """`populations` is the mini-node's and the User Portal's name, `frequencies` the standard's."""

    populations: list[_Population] = Field(default_factory=list, max_length=10_000)
    frequencies: list[_Population] = Field(default_factory=list, max_length=10_000)


class _Record(_Lenient):
    frequencyInPopulations: list[_Frequency] = Field(default_factory=list, max_length=1000)


class _ResultSet(_Lenient):
    id: Annotated[str, Field(min_length=1, max_length=300)]
    setType: str = "dataset"
    exists: bool = True
    resultsCount: int | None = None
    results: list[_Record] = Field(default_factory=list, max_length=1000)


class _Sets(_Lenient):
    resultSets: list[_ResultSet] = Field(default_factory=list, max_length=MAX_DATASETS)


class BeaconResponse(_Lenient):
    """What a Beacon sends; of the standard's fields those that are read here."""

    response: _Sets | None = None

    def carriers(self) -> dict[str, tuple[int | None, int | None]]:
        """(allele count, allele number) of each dataset that says it has the variant."""
        found = {}
        for one in self.response.resultSets if self.response else []:
            if one.setType == "dataset" and one.exists and one.resultsCount != 0:
                groups = [
                    p for r in one.results for f in r.frequencyInPopulations for p in f.populations or f.frequencies
                ]
                found[one.id] = (_sum([p.alleleCount for p in groups]), _sum([p.alleleNumber for p in groups]))
        return found


def _sum(numbers: list[float | None]) -> int | None:
    known = [n for n in numbers if n is not None and 0 <= n < 2**53]
    return int(sum(known)) if known and len(known) == len(numbers) else None
