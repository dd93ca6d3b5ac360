"""Whether a run may ask what it is about to ask: decided from what the operator wrote and opened, and from nothing that
users did or people are. Pure; the same question has the same answer for everybody.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from gdi.contracts.cohorts import AdmissionQuestion, CohortChoice
from gdi.contracts.descriptor import Descriptor
from gdi.contracts.ids import dataset_name
from gdi.kit.problem import ProblemError
from gdi.releases.disclosure import vocabulary
from gdi.releases.registry import kind_of
from node_gateway.descriptors import find, not_described
from node_gateway.policy import Policy

KINDS_OF_LEVELS = frozenset({vocabulary.ALLELES})  # of which all levels of a split leave, or none


@dataclass(frozen=True)
class OpenEpoch:
    """A frozen version of a dataset: the `levels` of each of its splits, the names of its variable sets and tables, and
    whether only some genotypes count (`filtered`). It says nothing about people.
    """

    dataset: str
    number: int
    splits: Mapping[str, Sequence[str]] = field(default_factory=dict)
    variables: frozenset[str] = frozenset()
    tables: frozenset[str] = frozenset()
    filtered: bool = False


def decide(
    policy: Policy, descriptors: Sequence[Descriptor], epochs: Sequence[OpenEpoch], question: AdmissionQuestion
) -> None:
    """Returns where the question may be asked. ProblemError 403: `forbidden-workflow`, `dataset-not-described`,
    `forbidden-check`, `not-open`.
    """
    if not policy.allows_workflow(question.workflow, question.digest):
        raise ProblemError(
            403,
            "forbidden-workflow",
            f"This node does not allow the workflow {question.workflow}.",
            action="Ask the node's operator.",
        )
    named(question.cohort)
    for kind in question.kinds:
        if kind not in policy.releases.kinds:
            raise _kind(f"This node releases nothing of the kind {kind}.")
        if question.cohort.split is not None and kind not in KINDS_OF_LEVELS:
            raise _kind(f"Levels of a split leave all or none, which the kind {kind} cannot say.")
    for dataset in sorted(set(question.datasets)):
        _of_dataset(dataset, descriptors, epochs, question)


def _of_dataset(
    dataset: str, descriptors: Sequence[Descriptor], epochs: Sequence[OpenEpoch], question: AdmissionQuestion
) -> None:
    descriptor, choice = find(descriptors, dataset), question.cohort
    if descriptor is None:
        raise not_described(dataset)
    for kind in question.kinds:
        by_name = kind in descriptor.kinds or not kind_of(kind).named_only
        if not (by_name and descriptor.may_be_asked(kind)):
            raise _kind(f"The dataset {dataset} is not released in the kind {kind}.")
    alone = len(descriptors) == 1 and descriptor.exact and len(set(question.datasets)) == 1
    if not descriptor.lists_people and not alone:
        raise _not_open(f"the people of the dataset {dataset} are not listed, so it is answered by itself only")
    epoch = epoch_of(dataset, epochs, choice)
    if epoch is None:
        if choice.epochs.get(dataset) or named(choice):
            raise _not_open(f"the dataset {dataset} has no such epoch")
        if descriptor.filter is not None:
            raise _not_open(f"the genotypes of the dataset {dataset} are filtered, and no epoch says how")
        if descriptor.membership == "sensitive":
            raise _not_open(f"the dataset {dataset} is sensitive, and has no epoch whose people have a budget")
        if not (alone or descriptor.disjoint):
            raise _not_open(f"the dataset {dataset} has no epoch, so who is in other datasets too is not known")
        return
    if choice.split is not None and choice.level not in epoch.splits.get(choice.split, ()):
        raise _not_open(f"epoch {epoch.number} of {dataset} has no such level of a split")
    if choice.variables is not None and choice.variables not in epoch.variables:
        raise _not_open(f"epoch {epoch.number} of {dataset} has no such variable set")
    if choice.table is not None and choice.table not in epoch.tables:
        raise _not_open(f"epoch {epoch.number} of {dataset} has no such table")


def named(choice: CohortChoice) -> str:
    """What of an epoch's people it names, as the ledger calls it: empty for the whole. ProblemError 422 where it names
    more than one, or half of one.
    """
    if (choice.split is None) != (choice.level is None):
        raise ProblemError(422, "invalid-request", "A split needs a level, and a level its split.", action="Name both.")
    if len(choice.parts) > 1:
        raise ProblemError(422, "invalid-request", "A cohort is one of an epoch's.", action="Name one of them.")
    return choice.words


def epoch_of(dataset: str, epochs: Sequence[OpenEpoch], choice: CohortChoice) -> OpenEpoch | None:
    """The epoch that is named, or the newest; None where there is none such."""
    mine = sorted((one for one in epochs if one.dataset == dataset), key=lambda one: one.number)
    number = choice.epochs.get(dataset)
    if number is not None:
        return next((one for one in mine if one.number == number), None)
    return mine[-1] if mine else None


def epochs_of(datasets: Collection[str], epochs: Sequence[OpenEpoch], choice: CohortChoice) -> list[OpenEpoch]:
    """Each dataset's epoch, by dataset; of one without there is none."""
    found = (epoch_of(dataset, epochs, choice) for dataset in sorted(set(datasets)))
    return [one for one in found if one is not None]


def numbered(datasets: Collection[str], epochs: Sequence[OpenEpoch], choice: CohortChoice) -> CohortChoice:
    """The choice with the number of each dataset's epoch; of a dataset without one it says none."""
    found = epochs_of(datasets, epochs, choice)
    return choice.model_copy(update={"epochs": {one.dataset: one.number for one in found}})


def cohort_name(dataset: str, number: int, part: str = "") -> str:
    """What the ledger calls a cohort: the first epoch by the dataset's name (`ids.dataset_name`), the next `DATASET@2`;
    a part of one `DATASET@2/sex=female`, `DATASET/variables:growth`.
    """
    own = dataset_name(dataset)  # no id's letters are taken for the marks of the name
    name = own if number == 1 else f"{own}@{number}"
    return f"{name}/{part}" if part else name


def cohort_names(datasets: Sequence[str], epochs: Sequence[OpenEpoch], choice: CohortChoice) -> list[str]:
    """What the ledger calls the cohort of each dataset that the choice names. It was admitted (`decide`)."""
    found = ((dataset, epoch_of(dataset, epochs, choice)) for dataset in sorted(set(datasets)))
    return [cohort_name(dataset, epoch.number if epoch else 1, named(choice)) for dataset, epoch in found]


def _kind(detail: str) -> ProblemError:
    return ProblemError(403, "forbidden-check", detail, action="Ask the node's operator.")


def _not_open(what: str) -> ProblemError:
    return ProblemError(
        403, "not-open", f"This is not open at the node: {what}.", action="Ask for an epoch's cohort that is open."
    )
