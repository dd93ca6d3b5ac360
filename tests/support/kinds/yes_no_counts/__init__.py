"""A kind of release that the product does not know: how many people said yes and no to each question. Installed for
tests by putting the folder above on the path.
"""

from __future__ import annotations

from typing import Any, ClassVar

from gdi.releases.kind import CoordinatorHalf, Kind, NodeHalf


class YesNoCounts(Kind):
    name = "yes-no-counts"
    unit = "question"
    row = "question"
    reasons: ClassVar = {"few": "so few people said one or the other"}

    def node(self) -> NodeHalf[Any, Any]:
        from yes_no_counts.node import YesNoNode

        return YesNoNode()

    def coordinator(self) -> CoordinatorHalf[Any, Any]:
        from yes_no_counts.coordinator import YesNoCoordinator

        return YesNoCoordinator()


KIND = YesNoCounts()
