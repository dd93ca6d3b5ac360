"""What a run may ask for its pod, and what it gets."""

from __future__ import annotations

from typing import Any

import pytest

from gdi.pods.config import PodConfig, Wish


def config(**more: Any) -> PodConfig:
    return PodConfig.model_validate({"image": "gdi-snakemake:1", **more})


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"memory": "0"}, r"pod\.memory: 0 is less than the 64Mi that a pod needs"),
        ({"memory": "63Mi"}, "63Mi is less than the 64Mi"),
        ({"memory": "100m"}, r"pod\.memory: 100m is less"),
        ({"cpu": "0"}, r"pod\.cpu: 0 is less than the 1m"),
        ({"cpu": "0.0m"}, r"pod\.cpu"),
        ({"disk": "0"}, r"pod\.disk: 0 is less"),
        ({"disk": "100m"}, r"pod\.disk: 100m is less"),
        ({"memory": "5Gi"}, "more than the 4Gi"),
    ],
)
def test_nothing_is_less_than_a_pod_needs_as_a_limit_of_none_is_no_limit(asked: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        config().wish("probe", Wish.model_validate(asked))
    assert config().wish("probe", Wish(memory="64Mi", cpu="1m", disk="1Mi")).memory == "64Mi"


def test_a_run_adds_to_the_operators_selector_and_tolerations_and_takes_none_away() -> None:
    pool, urgent = {"key": "pool", "value": "gdi"}, {"key": "urgent", "operator": "Exists"}
    allowed = {"node_selectors": {"disk": ["ssd"], "pool": ["other"]}, "tolerations": [urgent, pool]}
    found = config(defaults={"node_selector": {"pool": "gdi"}, "tolerations": [pool]}, limits=allowed)

    def made(**asked: Any) -> tuple[dict[str, str] | None, list[str]]:
        wish = found.wish("probe", Wish.model_validate(asked))
        return wish.node_selector, [t.key for t in wish.tolerations or ()]

    assert made(node_selector={}, tolerations=[]) == made() == ({"pool": "gdi"}, ["pool"])
    assert made(node_selector={"disk": "ssd"}, tolerations=[urgent, pool]) == (
        {"disk": "ssd", "pool": "gdi"},
        ["pool", "urgent"],
    )
    assert made(node_selector={"pool": "other"})[0] == {"pool": "gdi"}
    bare = config(limits=allowed)
    assert (
        bare.wish("probe", Wish(node_selector={"disk": "ssd"})).node_selector == {"disk": "ssd"}
        and bare.wish("probe", Wish()).node_selector is None
    )
    workflows = {"probe": {"node_selector": {"pool": "large"}}}  # an operator's own word replaces theirs of before
    assert config(defaults={"node_selector": {"disk": "hdd"}}, workflows=workflows).wish(
        "probe", None
    ).node_selector == {"pool": "large"}


def test_a_dags_author_stands_between_operator_and_run() -> None:
    found = config(defaults={"cpu": "1", "node_selector": {"pool": "gdi"}})
    author = Wish.model_validate({"cpu": "2", "memory": "2Gi", "node_selector": {"pool": "other", "disk": "ssd"}})
    wish = found.wish("probe", Wish(memory="3Gi"), author)
    assert (wish.cpu, wish.memory, wish.disk) == ("2", "3Gi", "5Gi")
    assert wish.node_selector == {"pool": "gdi", "disk": "ssd"}
