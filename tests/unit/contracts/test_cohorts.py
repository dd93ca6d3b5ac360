"""A run's `cohort`: one of an epoch's, in a form that can be checked, and of a workflow that can analyse it."""

from __future__ import annotations

import pytest

from gdi.contracts.cohorts import CohortChoice, EpochCohorts, WrongCohortError, chosen
from gdi.contracts.ids import dataset_name
from gdi.contracts.run_file import RunFile
from gdi.contracts.workflow import Workflow

COUNTS = {"name": "counts", "path": "counts.json", "kind": "allele-counts", "title": "Counts"}
ABLE = Workflow.model_validate(
    {
        "name": "able",
        "title": "",
        "version": "1",
        "cohorts": ["level"],
        "releases": [{**COUNTS, "levels": "levels"}],
    }
)
UNABLE = Workflow.model_validate({"name": "unable", "title": "", "version": "1", "releases": [COUNTS]})
FEMALE = {"split": "sex", "level": "female"}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("sex=female", "must be an object"),
        ([], "must be an object"),
        (7, "must be an object"),
        ({"people": "age > 40"}, "people: Extra inputs"),
        ({"split": "sex"}, "half of a level"),
        ({"level": "female"}, "half of a level"),
        ({**FEMALE, "variables": "growth"}, "names several"),
        ({"variables": "growth", "table": "smokers"}, "names several"),
        ({"split": "sex; rm", "level": "x"}, "split: String should match"),
        ({"split": "sex", "level": "x" * 101}, "level: String should have at most 100"),
        ({"epochs": {"EGAD1": 0}}, "epochs.EGAD1: Input should be greater"),
        ({"epochs": {"no id!": 1}}, "epochs"),
    ],
)
def test_what_is_no_cohort_is_refused_in_words(value: object, why: str) -> None:
    with pytest.raises(WrongCohortError, match=why):
        chosen(value)
    assert why in ABLE.check_parameters({"cohort": value})[0]


def test_a_workflow_that_cannot_analyse_it_refuses_by_name_and_every_one_takes_everybody() -> None:
    assert UNABLE.check_parameters({"cohort": FEMALE}) == ["cohort: unable takes no cohort but everybody"]
    assert ABLE.check_parameters({"cohort": {"table": "smokers"}}) == ["cohort: able takes only a cohort by level"]
    for workflow in (ABLE, UNABLE):
        for everybody in (None, {}, {"epochs": {"EGAD1": 2}}):
            assert workflow.check_parameters({"cohort": everybody}) == []
    assert ABLE.check_parameters({"cohort": FEMALE}) == []


def test_a_workflow_with_levels_says_where_every_level_lies() -> None:
    for cohorts, levels in ((["level"], None), ([], "levels")):
        with pytest.raises(ValueError, match="cohorts has level where a release has levels"):
            Workflow.model_validate(
                {
                    "name": "half",
                    "title": "",
                    "version": "1",
                    "cohorts": cohorts,
                    "releases": [{**COUNTS, "levels": levels}],
                }
            )


def test_what_may_be_named_of_an_epoch_is_each_of_its_parts() -> None:
    epoch = EpochCohorts(number=2, splits={"sex": ("female", "male")}, variables=("growth",), tables=("smokers",))
    assert [one.words for one in epoch.choices] == ["sex=female", "sex=male", "variables:growth", "table:smokers"]
    assert chosen(epoch.choices[0].written) == CohortChoice(split="sex", level="female")
    assert CohortChoice().written == {} and CohortChoice(epochs={"EGAD1": 2}).part is None


def test_a_snakefile_sees_epochs_by_the_datasets_names() -> None:
    dataset = "10.5072/gdi-a"
    run = RunFile.model_validate(
        {
            "run": "r-" + "0" * 20,
            "attempt": 1,
            "node": "node-a",
            "workflow": "able",
            "digest": "sha256:" + "a" * 64,
            "parameters": {"cohort": {**FEMALE, "epochs": {dataset: 2}}},
            "datasets": [dataset],
            "gateway_url": "http://gateway",
            "audience": "http://gateway",
            "pod": "gdi-" + "0" * 20 + "-node-a-1-1",
            "broker_url": "http://broker",
        }
    )
    assert run.config()["cohort"] == {**FEMALE, "epochs": {dataset_name(dataset): 2}}
