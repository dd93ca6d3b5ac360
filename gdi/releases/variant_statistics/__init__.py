"""The kind `variant-statistics`: for each variant an effect with its standard error, put together by meta-analysis."""

from __future__ import annotations

from typing import Any, ClassVar

from gdi.releases.kind import CoordinatorHalf, Kind, NodeHalf


class VariantStatistics(Kind):
    name = "variant-statistics"
    unit = "variant"
    row = "variant"
    named_only = False
    reasons: ClassVar = {
        "few-people": "fewer than 50 people were analysed",
        "small": "fewer than 20 people carry one of the alleles, fewer than the node's floor have one of the genotypes,"
        " among cases or controls where there are such, so few have no call, or so few carry another rare"
        " allele of a gene than its commonest",
        "overlap": "what left of the same people would tell of few",
        "duplicate-site": "the position is there twice",
        "unknown-contig": "no assembly knows a contig of that name",
        "two-names": "the file names the contig in two ways",
    }
    central: ClassVar = frozenset({"small"})
    media_type = "text/tab-separated-values"
    suffix = ".tsv"

    def node(self) -> NodeHalf[Any, Any]:
        from gdi.releases.variant_statistics.node import VariantStatisticsNode

        return VariantStatisticsNode()

    def coordinator(self) -> CoordinatorHalf[Any, Any]:
        from gdi.releases.variant_statistics.coordinator import VariantStatisticsCoordinator

        return VariantStatisticsCoordinator()


KIND = VariantStatistics()
