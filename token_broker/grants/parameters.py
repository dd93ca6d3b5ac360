"""A start's parameters (all of `conf` but the ticket): the hash that binds a ticket to them, and the datasets and the
cohort that they name.
"""

from __future__ import annotations

from typing import Any

from gdi.contracts.cohorts import PARAMETER, WrongCohortError, chosen
from gdi.kit.canonical import parameters_hash
from gdi.kit.problem import ProblemError


def hash_of(parameters: dict[str, Any]) -> str:
    """The hash that binds a ticket. 422 where the parameters have no canonical form."""
    try:
        return parameters_hash(parameters)
    except (ValueError, RecursionError):
        raise ProblemError(
            422,
            "bad-parameters",
            "The parameters are not plain, finite JSON in UTF-8.",
            action="Correct them and send them again.",
        ) from None


def datasets_of(parameters: dict[str, Any]) -> list[str]:
    """The datasets that parameters name, each once, in order. 422 where there is none, or where `cohort` is wrong."""
    value = parameters.get("datasets")
    if (
        not isinstance(value, list)
        or not value
        or len(value) > 1000
        or not all(isinstance(d, str) and 0 < len(d) <= 128 for d in value)
    ):
        raise ProblemError(
            422,
            "bad-datasets",
            "parameters.datasets must be a list of 1 to 1000 dataset ids.",
            action="Name the datasets to analyse.",
        )
    expect_cohort(parameters, value)
    return sorted(set(value))


def expect_cohort(parameters: dict[str, Any], datasets: list[str]) -> None:
    """422 `bad-cohort` where `cohort` is none, or names epochs of other datasets. Whether it is open the nodes say."""
    try:
        strange = sorted(set(chosen(parameters.get(PARAMETER)).epochs) - set(datasets))
    except WrongCohortError as error:
        why = str(error)
    else:
        why = f"{PARAMETER}.epochs names {strange[0]}, which is none of the run's datasets" if strange else ""
    if why:
        raise ProblemError(422, "bad-cohort", f"{why}.", action="Name a cohort that GET /v1/datasets lists.")
