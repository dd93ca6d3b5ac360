"""The kind `moments`: number of people, mean and variance of numbers by group, and a histogram of one of them."""

from __future__ import annotations

from typing import Any, ClassVar

from gdi.releases.kind import CoordinatorHalf, Kind, NodeHalf


class MomentsKind(Kind):
    name = "moments"
    unit = "set of groups"
    row = "group"
    named_only = False
    reasons: ClassVar = {
        "small": "fewer than 20 people, or few of them make most of the number, or few differ from all others",
    }
    central: ClassVar = frozenset({"small"})

    def node(self) -> NodeHalf[Any, Any]:
        from gdi.releases.moments.node import MomentsNode

        return MomentsNode()

    def coordinator(self) -> CoordinatorHalf[Any, Any]:
        from gdi.releases.moments.coordinator import MomentsCoordinator

        return MomentsCoordinator()


KIND = MomentsKind()
