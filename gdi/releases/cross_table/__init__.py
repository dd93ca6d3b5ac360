"""The kind `table`: how many people there are by declared categories of one to four columns, with all margins."""

from __future__ import annotations

from typing import Any, ClassVar

from gdi.releases.kind import CoordinatorHalf, Kind, NodeHalf


class CrossTableKind(Kind):
    name = "table"
    unit = "table"
    row = "cell"
    named_only = False
    reasons: ClassVar = {
        "small": "fewer people than the node's floor",
    }
    central: ClassVar = frozenset({"small"})

    def node(self) -> NodeHalf[Any, Any]:
        from gdi.releases.cross_table.node import CrossTableNode

        return CrossTableNode()

    def coordinator(self) -> CoordinatorHalf[Any, Any]:
        from gdi.releases.cross_table.coordinator import CrossTableCoordinator

        return CrossTableCoordinator()


KIND = CrossTableKind()
