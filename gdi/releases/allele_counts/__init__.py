"""The kind `allele-counts`: counts of alleles and of genotype classes at each site, added up to frequencies."""

from __future__ import annotations

from typing import Any, ClassVar

from gdi.contracts.variants import WITHHELD
from gdi.releases.kind import CoordinatorHalf, Kind, NodeHalf


class AlleleCounts(Kind):
    name = "allele-counts"
    unit = "site"
    row = "allele"
    named_only = False
    parquet = True
    reasons: ClassVar = {
        "small": "fewer people than the node's floor carry an allele, by themselves or with what left before",
        "missing": "nobody, or hardly anybody, was called",
        "unknown-contig": "no assembly knows a contig of that name",
        "two-names": "the file names the contig in two ways",
        "crowded": "more than 1000 alleles of records overlap each other",
        **WITHHELD,
    }

    central: ClassVar = frozenset({"small", "missing"})

    def node(self) -> NodeHalf[Any, Any]:
        from gdi.releases.allele_counts.node import AlleleCountsNode

        return AlleleCountsNode()

    def coordinator(self) -> CoordinatorHalf[Any, Any]:
        from gdi.releases.allele_counts.coordinator import AlleleCountsCoordinator

        return AlleleCountsCoordinator()


KIND = AlleleCounts()
