"""The kind `matrix`: sums of products of people's numbers and categories, of which the centre computes a regression."""

from __future__ import annotations

from typing import Any, ClassVar

from gdi.releases.kind import CoordinatorHalf, Kind, NodeHalf


class MatrixKind(Kind):
    name = "matrix"
    unit = "matrix"
    row = "coefficient"
    named_only = True  # its sums are exact, not rounded
    reasons: ClassVar = {
        "small": "fewer than 50 people, fewer than 20 of a category, fewer than the node's floor of two categories"
        " together, a number of few values, or few people make most of a sum or of a combination of columns",
        "equations": "so many sums of so few people could be solved for each person",
    }
    central: ClassVar = frozenset({"small", "equations"})

    def node(self) -> NodeHalf[Any, Any]:
        from gdi.releases.matrix.node import MatrixNode

        return MatrixNode()

    def coordinator(self) -> CoordinatorHalf[Any, Any]:
        from gdi.releases.matrix.coordinator import MatrixCoordinator

        return MatrixCoordinator()


KIND = MatrixKind()
