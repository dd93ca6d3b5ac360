"""The kind `variant-statistics`: for each variant an effect with its standard error, put together by meta-analysis."""

from __future__ import annotations

from typing import Any, ClassVar

from gdi.releases.kind import CoordinatorHalf, Kind, NodeHalf


class VariantStatistics(Kind):
    name = "variant-statistics"
    unit = "variant"
    row = "variant"
    named_only = True
    reasons: ClassVar = {
        "few-people": "fewer than 50 people were analysed",
        "small": "fewer than 20 people carry one of the alleles, among cases or controls where there are such",
        "overlap": "what left of other cohorts would tell of few people",
        "changed": "other people were analysed before under the same name",
        "duplicate-site": "the variant is there twice",
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
