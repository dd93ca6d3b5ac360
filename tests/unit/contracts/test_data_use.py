"""Terms and purposes in DUO's codes: what the codes alone forbid is refused, and what needs a person is not."""

from __future__ import annotations

from itertools import product

import pytest

from gdi.contracts import data_use
from gdi.contracts.data_use import PURPOSES, TERMS, WrongPurposeError, purposes, why_not
from gdi.contracts.workflow import Workflow

HMB, DS, POA, GRU, NRES = "DUO:0000006", "DUO:0000007", "DUO:0000011", "DUO:0000042", "DUO:0000004"
NMDS, GSO, NPOA, IRB, GS = "DUO:0000015", "DUO:0000016", "DUO:0000044", "DUO:0000021", "DUO:0000022"
METHODS, POPULATION, ANCESTRY = "DUO:0000031", "DUO:0000032", "DUO:0000033"
BIOMEDICAL, GENETIC, DRUGS, DISEASE = "DUO:0000037", "DUO:0000038", "DUO:0000039", "DUO:0000040"
EXAMPLE = Workflow(name="counts", title="Counts", version="1.0.0", parameters={"regions": {"type": "integer"}})


@pytest.mark.parametrize(
    ("use", "stated", "why"),
    [
        ([HMB], [ANCESTRY], "limited to health or medical or biomedical research (DUO:0000006), and ancestry research"),
        ([HMB], [BIOMEDICAL, POPULATION], "population research (DUO:0000032) is not that"),
        ([DS], [BIOMEDICAL], "disease specific research"),
        ([POA], [GENETIC], "population origins or ancestry research only"),
        ([GRU, NMDS], [METHODS], "no general methods research (DUO:0000015), and method development"),
        ([GRU, NPOA], [ANCESTRY], "prohibited (DUO:0000044), and ancestry research"),
        ([NRES, NPOA], [BIOMEDICAL, POPULATION], "prohibited"),
        ([GRU, GSO], [DRUGS], "genetic studies only (DUO:0000016), and genetic research (DUO:0000038) is not stated"),
    ],
)
def test_what_the_codes_forbid_is_said_with_codes_and_names(use: list[str], stated: list[str], why: str) -> None:
    assert why in why_not(use, stated)


@pytest.mark.parametrize(
    ("use", "stated"),
    [
        ([], [METHODS]),
        ([HMB], [BIOMEDICAL, GENETIC, DRUGS, DISEASE, METHODS]),
        ([DS], [DISEASE]),
        ([POA], [ANCESTRY, POPULATION]),
        ([GRU, HMB], [ANCESTRY]),
        ([HMB, POA], [ANCESTRY, BIOMEDICAL]),
        ([GRU, GSO], [DRUGS, GENETIC]),
        ([GRU, IRB, GS], [DISEASE]),
        (["DUO:0009999"], [DISEASE]),
        ([HMB, NMDS, GSO, NPOA], []),
    ],
    ids=lambda codes: "+".join(code[-2:] for code in codes) or "none",
)
def test_what_they_permit_or_leave_to_a_person_goes_on(use: list[str], stated: list[str]) -> None:
    assert why_not(use, stated) == ""


def test_a_further_purpose_never_makes_a_refusal_of_the_permissions_go_away() -> None:
    for term, one, other in product(sorted(data_use.PERMITS), PURPOSES, PURPOSES):
        if why_not([term], [one]):
            assert why_not([term], [one, other]) and why_not([term], [other, one])
    for modifier, one in product(sorted(TERMS), PURPOSES):
        if why_not([HMB], [one]):
            assert why_not([HMB, modifier], [one]) or modifier in (*data_use.ANY, POA), "a modifier permits nothing"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("DUO:0000037", "must be a list"),
        ([], "must be a list"),
        ([37], "must be a list"),
        ([BIOMEDICAL] * 11, "must be a list"),
        (["DUO:37"], "must be a list"),
        ([HMB], "DUO:0000006 is no purpose of research"),
        ([BIOMEDICAL, BIOMEDICAL], "names a code twice"),
        ({"purpose": 1}, "must be a list"),
    ],
)
def test_what_is_no_purpose_is_refused_in_words(value: object, why: str) -> None:
    with pytest.raises(WrongPurposeError, match=why):
        purposes(value)
    assert any(why in mistake for mistake in EXAMPLE.check_parameters({"regions": 2, "purpose": value}))


def test_any_workflow_takes_a_purpose_beside_its_parameters_and_none_declares_it() -> None:
    assert purposes(None) == [] and purposes([GENETIC]) == [GENETIC]
    assert EXAMPLE.check_parameters({"regions": 2, "purpose": [GENETIC]}) == []
    with pytest.raises(ValueError, match="reserved"):
        Workflow(name="counts", title="Counts", version="1.0.0", parameters={"purpose": {"type": "string"}})
