"""Datasets at several nodes that have some of the same people, as a node's operator says (`overlaps` of a descriptor):
nobody else sees it, and a sum over both counts these people twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, Field

from gdi.contracts.descriptor import Descriptor
from gdi.contracts.ids import DatasetId, NodeId


class SharedPeople(BaseModel):
    """Some people of the node's `dataset` are also in `other`, at `node` where its operator knows that."""

    dataset: DatasetId
    other: DatasetId
    node: NodeId | None = None


MOST = 1000  # that a node tells of at once
Shared = Annotated[list[SharedPeople], Field(max_length=MOST)]


def shared_people(described: Iterable[Descriptor | None]) -> list[SharedPeople]:
    """What these descriptors say."""
    found = [
        SharedPeople(dataset=one.dataset, other=overlap.dataset, node=overlap.node)
        for one in described
        if one is not None
        for overlap in one.overlaps
    ]
    return found[:MOST]


def counted_twice(shared: Mapping[str, Sequence[SharedPeople]], datasets: Mapping[str, Collection[str]]) -> list[str]:
    """A sentence for each two datasets of different nodes whose people are counted twice. `shared`: by node, what it
    says of itself; `datasets`: by node, what is asked there.
    """
    found: dict[frozenset[tuple[str, str]], str] = {}
    for node, says in sorted(shared.items()):
        for one in says:
            for place, ids in sorted(datasets.items()):
                if place == node or one.node not in (None, place) or one.other not in ids:
                    continue
                if one.dataset in datasets.get(node, ()):
                    pair = frozenset({(node, one.dataset), (place, one.other)})
                    found.setdefault(
                        pair,
                        f"Some people of {one.dataset} at {node} are in {one.other} at {place} as well, as {node} says:"
                        " a sum over both counts them twice.",
                    )
    return list(found.values())
