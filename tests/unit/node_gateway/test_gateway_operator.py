"""What the operator does by hand: epochs of a sample table, who leaves with few leavers, cohorts, the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gdi.contracts.cohorts import CohortChoice
from gdi.contracts.gateway_api import ReleaseRequest
from gdi.kit.problem import ProblemError
from node_gateway import commands
from node_gateway.epochs import command as epochs
from node_gateway.epochs.command import EpochRefused
from node_gateway.epochs.persons import PersonsError
from node_gateway.release import command as releases
from node_gateway.release.command import RetractionError
from tests.support.disclosure_node import PEOPLE, DisclosureNode, disclosure_node, document, rows_of

STATUS = {"column": "status", "type": "category", "categories": ["case", "control"]}
BMI = {"column": "bmi", "type": "number", "unit": "kg/m2", "minimum": 5, "maximum": 90}
SAMPLES = {"file": "s.tsv.c4gh", "format": "tsv", "person": "person", "country": "country", "phenotypes": [STATUS, BMI]}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[DisclosureNode]:
    async with disclosure_node(tmp_path / "node", tmp_path / "empty.db") as made:
        made.describe("DS1", samples=SAMPLES, splits=["country", "status"], variable_sets={"weight": ["bmi"]})
        yield made


def table(people: Any = PEOPLE) -> list[dict[str, str]]:
    return [
        {
            "person": f"HG{one:05d}",
            "country": "LU" if one < 3 else ("SE" if one % 2 else "FI"),
            "status": "case" if one % 3 else "control",
            "bmi": "22.5" if one >= 100 else "",
        }
        for one in people
    ]


async def test_a_table_opens_an_epoch_with_splits_and_small_levels_join_other(node: DisclosureNode) -> None:
    await node.open_table("DS1", table())
    names = {
        line.split("\t")[0]: line.split("\t")[1] for line in (await epochs.cohort_lines(node.database)).split("\n")
    }
    assert names["DS1"] == "629 people" and names["DS1/variables:weight"] == "529 people"
    assert {n for n in names if "country" in n} == {"DS1/country=SE", "DS1/country=other"}, "LU has three people"
    told = await epochs.comparison(node.database, "DS1/status=case", "DS1/variables:weight")
    assert told.startswith("353 people are in both, ")
    with pytest.raises(PersonsError, match="cohort list"):
        await epochs.comparison(node.database, "DS1", "DS1@9")


async def test_a_run_is_answered_for_the_level_that_it_names_and_for_nobody_else(node: DisclosureNode) -> None:
    await node.open_table("DS1", table())
    cases, controls = [one for one in PEOPLE if one % 3], [one for one in PEOPLE if not one % 3]
    choice = CohortChoice(split="status", level="case")
    others = {"control": rows_of(controls)}
    with pytest.raises(ProblemError) as refused:
        await node.release("DS1", rows_of(cases), cohort=choice, levels=others)
    assert refused.value.slug == "not-beside", "the whole is asked first"
    whole = (await node.release("DS1", rows_of(PEOPLE))).exact()
    case = (await node.release("DS1", rows_of(cases), cohort=choice, levels=others)).exact()
    other = CohortChoice(split="status", level="control")
    control = (await node.release("DS1", rows_of(controls), cohort=other, levels={"case": rows_of(cases)})).exact()
    assert len(case) > 30 and set(case) == set(control)
    assert all(case[site] + control[site] == whole[site] for site in case)
    for rows, levels, asked, slug in (
        (PEOPLE, others, choice, "other-people"),
        (cases, {"control": rows_of(PEOPLE)}, choice, "other-people"),
        (cases, {}, choice, "invalid-request"),
        (cases, others | {"other": rows_of(controls)}, choice, "invalid-request"),
        (PEOPLE, others, CohortChoice(), "invalid-request"),
        (cases, others, CohortChoice(split="status", level="maybe"), "not-open"),
    ):
        with pytest.raises(ProblemError) as refused:
            await node.release("DS1", rows_of(rows), cohort=asked, levels=levels)
        assert refused.value.slug == slug


async def test_the_node_finds_the_other_levels_files_in_the_workflows_folder(node: DisclosureNode) -> None:
    await node.open_table("DS1", table())
    cases, controls = [one for one in PEOPLE if one % 3], [one for one in PEOPLE if not one % 3]
    await node.release("DS1", rows_of(PEOPLE))

    async def ask(level: str) -> dict[str, Any]:
        caller = node.caller(["DS1"])
        for name, people in (("counts", controls), ("levels/0", cases), ("levels/1", PEOPLE)):
            node.files.objects[f"{caller.run}/{name}.json"] = document(rows_of(people))
        choice = CohortChoice(split="status", level=level)
        request = ReleaseRequest(
            name="counts", path="counts.json", kind="allele-counts", cohort=choice, levels_in="levels"
        )
        return (await node.releases.ask(request, caller))[1]

    named = (await ask("control"))["cohort"]
    assert (named["level"], named["epochs"]) == ("control", {"DS1": 1}), "and at 0 it looked at the cases"
    with pytest.raises(ProblemError) as refused:
        await ask("case")
    assert refused.value.slug == "other-people", "its file is of others, and so is the one at 1"


async def test_levels_are_told_of_in_allele_counts_only(node: DisclosureNode) -> None:
    node.policy(releases={"kinds": ["allele-counts", "table"]})
    await node.open_table("DS1", table())
    choice = CohortChoice(split="status", level="case")
    with pytest.raises(ProblemError) as refused:
        await node.release("DS1", b"{}", kind="table", cohort=choice)
    assert refused.value.slug == "forbidden-check"


@pytest.mark.parametrize(
    ("rows", "mistake"),
    [
        ([{"person": "a", "country": "FI", "status": "case"}], "lacks the columns bmi"),
        (table([1]) * 2, "line 3: a person is there again"),
        ([{**table([1])[0], "person": " "}], "line 2: person is one word"),
    ],
    ids=["a column", "twice", "nobody"],
)
async def test_a_table_that_is_none_is_refused_with_its_line(
    node: DisclosureNode, rows: list[dict[str, str]], mistake: str
) -> None:
    with pytest.raises(PersonsError, match=mistake):
        await node.open_table("DS1", rows)


async def test_with_few_leavers_others_leave_and_stay_out(node: DisclosureNode) -> None:
    await node.open_epoch("DS2", PEOPLE)
    with pytest.raises(EpochRefused, match=r"2 people of DS2 left.*--others-leave"):
        await node.open_epoch("DS2", PEOPLE[2:])
    assert "609 people. 18 others leave" in await node.open_epoch("DS2", PEOPLE[2:], others_leave=True)
    with pytest.raises(EpochRefused):  # who left once does not come back by and by
        await node.open_epoch("DS2", [*PEOPLE[2:], 2001])
    async with node.database.read() as connection:
        assert len(await epochs.store.outside(connection, "DS2")) == 18


async def test_of_people_who_are_told_apart_by_nothing_one_epoch_is_answered(node: DisclosureNode) -> None:
    node.describe("DS1", identifiers=None)
    described = node.releases.policy.datasets.of("DS1")
    await node.open_epoch("DS1", PEOPLE, descriptor=described)
    with pytest.raises(EpochRefused, match="one epoch of it is answered"):
        await node.open_epoch("DS1", range(700, 900), descriptor=described)


async def test_a_retracted_release_is_told_with_its_reason_and_stays_in_the_check(node: DisclosureNode) -> None:
    _, _, caller = await node.ask("DS1", rows_of(PEOPLE), user="alice")
    first = (await node.published(caller.run, {})).exact()
    with pytest.raises(RetractionError, match="no release 7"):
        await releases.retract(node.database, 7, "wrong", dry_run=False)
    with pytest.raises(RetractionError, match="reason"):
        await releases.retract(node.database, 1, " \n", dry_run=False)
    assert "would be marked" in await releases.retract(node.database, 1, "wrong", dry_run=True)
    await releases.retract(node.database, 1, "phenotypes were swapped", dry_run=False)
    with pytest.raises(ProblemError) as told:
        await node.published(caller.run, {})
    assert told.value.problem.status == 410 and "phenotypes were swapped" in told.value.problem.detail
    assert "retracted: phenotypes were swapped" in await releases.lines(node.database, "DS1")
    assert "alice" in await releases.lines(node.database) and "Nothing left" in await releases.lines(node.database, "X")
    assert (await node.release("DS1", rows_of(PEOPLE))).exact() == first


@pytest.mark.parametrize(
    "words", [["epoch"], ["cohort"], ["ledger"], ["epoch", "open"], ["ledger", "retract"], ["check"]]
)
def test_each_command_says_what_it_does(words: list[str]) -> None:
    shown = CliRunner().invoke(commands.app, [*words, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0 and "Usage: " in shown.output and len(shown.output) > 200


def test_check_ends_with_1_where_something_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("floor: 5\n")
    wrong = CliRunner().invoke(commands.app, ["check", str(tmp_path / "policy.yaml")])
    assert wrong.exit_code == 1 and "describes no dataset" in wrong.output
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "a.yaml").write_text("dataset: DS1\nassembly: GRCh38\nmembership: contract\n")
    good = CliRunner().invoke(commands.app, ["check", str(tmp_path / "policy.yaml")])
    assert good.exit_code == 0 and "Dataset DS1 (GRCh38)" in good.output
