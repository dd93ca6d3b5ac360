"""Admission: decided from policy, descriptors and epochs, in the same words for everybody, before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from gdi.contracts.cohorts import AdmissionQuestion, CohortChoice
from gdi.contracts.descriptor import Descriptor
from gdi.kit.problem import ProblemError
from gdi.releases.registry import kinds
from node_gateway.epochs.admission import OpenEpoch, cohort_names, decide
from node_gateway.policy import Policy

DIGEST = "sha256:" + "a" * 64
POLICY = Policy(
    placement="coordinator",
    workflows=["allele-frequency"],
    releases={"kinds": ["allele-counts"]},  # type: ignore[arg-type]
)
EPOCHS = [
    OpenEpoch("DS1", 1),
    OpenEpoch("DS1", 2, {"sex": ["female", "male"]}, frozenset({"growth"}), frozenset({"smokers"})),
]


def described(dataset: str = "DS1", **changes: Any) -> Descriptor:
    values = {"dataset": dataset, "assembly": "GRCh38", "membership": "contract", "identifiers": "one-per-person"}
    return Descriptor.model_validate({**values, **changes})


def question(**changes: Any) -> AdmissionQuestion:
    values = {"workflow": "allele-frequency", "digest": DIGEST, "datasets": ("DS1",), "kinds": ("allele-counts",)}
    return AdmissionQuestion(**{**values, **changes})


@pytest.mark.parametrize(
    ("descriptors", "changes", "slug"),
    [
        ([], {}, "dataset-not-described"),
        ([described("DS2")], {}, "dataset-not-described"),
        ([described()], {"workflow": "other"}, "forbidden-workflow"),
        ([described()], {"kinds": ("matrix",)}, "forbidden-check"),
        ([described(kinds=["table"])], {}, "forbidden-check"),
        ([described()], {"cohort": CohortChoice(epochs={"DS1": 3})}, "not-open"),
        ([described()], {"cohort": CohortChoice(epochs={"DS1": 1}, split="sex", level="female")}, "not-open"),
        ([described()], {"cohort": CohortChoice(split="sex", level="other")}, "not-open"),
        ([described()], {"cohort": CohortChoice(variables="weight")}, "not-open"),
        ([described()], {"cohort": CohortChoice(table="weight")}, "not-open"),
        ([described()], {"cohort": CohortChoice(split="sex")}, "invalid-request"),
        ([described()], {"cohort": CohortChoice(variables="growth", table="smokers")}, "invalid-request"),
        ([described(identifiers=None), described("DS2")], {}, "not-open"),
        ([described(identifiers=None), described("DS2")], {"datasets": ("DS1", "DS2")}, "not-open"),
        ([described(), described("DS2")], {"datasets": ("DS1", "DS2"), "cohort": CohortChoice(table="t")}, "not-open"),
        ([described("DS3"), described("DS2")], {"datasets": ("DS3",)}, "not-open"),
        ([described("DS3", disjoint=True), described("DS2")], {"datasets": ("DS2", "DS3")}, "not-open"),
        ([described("DS3", membership="sensitive")], {"datasets": ("DS3",)}, "not-open"),
    ],
    ids=str,
)
def test_what_is_not_open_is_told_at_admission(
    descriptors: list[Descriptor], changes: dict[str, Any], slug: str
) -> None:
    with pytest.raises(ProblemError) as refused:
        decide(POLICY, descriptors, EPOCHS, question(**changes))
    assert refused.value.slug == slug


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_a_kind_that_policy_or_dataset_does_not_name_is_told_by_its_name(kind: str) -> None:
    """Preflight asks the same function: nobody waits for a run to learn it."""
    all_kinds = POLICY.model_copy(update={"releases": POLICY.releases.model_copy(update={"kinds": sorted(kinds())})})
    decide(all_kinds, [described(kinds=[kind])], EPOCHS, question(kinds=(kind,)))
    others = sorted(set(kinds()) - {kind})
    without = POLICY.model_copy(update={"releases": POLICY.releases.model_copy(update={"kinds": others})})
    with pytest.raises(ProblemError, match=f"releases nothing of the kind {kind}"):
        decide(without, [described(kinds=[kind])], EPOCHS, question(kinds=(kind,)))
    with pytest.raises(ProblemError, match=f"is not released in the kind {kind}"):
        decide(all_kinds, [described(kinds=others)], EPOCHS, question(kinds=(kind,)))


@pytest.mark.parametrize(
    ("cohort", "name"),
    [
        ({}, "DS1@2"),
        ({"epochs": {"DS1": 1}}, "DS1"),
        ({"split": "sex", "level": "female"}, "DS1@2/sex=female"),
        ({"variables": "growth"}, "DS1@2/variables:growth"),
        ({"table": "smokers"}, "DS1@2/table:smokers"),
    ],
    ids=str,
)
def test_a_run_names_an_epochs_cohort(cohort: dict[str, Any], name: str) -> None:
    wanted = question(cohort=CohortChoice(**cohort))
    decide(POLICY, [described()], EPOCHS, wanted)
    assert cohort_names(wanted.datasets, EPOCHS, wanted.cohort) == [name]


def test_without_an_epoch_a_dataset_is_answered_alone_or_where_it_shares_nobody() -> None:
    wanted = question(datasets=("DS3",))
    decide(POLICY, [described("DS3")], EPOCHS, wanted)
    decide(POLICY, [described("DS3", disjoint=True), described("DS2")], EPOCHS, wanted)


def test_people_who_are_not_listed_are_answered_where_nothing_else_is() -> None:
    decide(POLICY, [described(identifiers=None)], [], question())
