"""One sentence of why for every ending; nothing is called good unless Airflow and broker both say so."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdi.contracts.run_endings import ENDED, STANDINGS, RunFacts, RunStanding, StepFacts, judge
from gdi.contracts.runs import Failing
from tests.support.run_endings import CASES, DONE, FAILED_ANALYSE, NODES  # noqa: F401


@pytest.mark.parametrize(("facts", "standing", "says", "fault"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_every_ending_has_its_sentence(facts: RunFacts, standing: RunStanding, says: str, fault: str) -> None:
    found = judge(facts)
    assert (found.standing, found.fault) == (standing, fault)
    assert says in found.sentence
    assert not found.ended or standing in ("succeeded",) or found.next_step, "who reads it knows what to do next"


def test_every_standing_is_reached() -> None:
    assert {judge(c[1]).standing for c in CASES} == set(STANDINGS)


steps = st.builds(
    StepFacts,
    st.sampled_from(["admit", "analyse", "release", "gather", "close", "rules.count"]),
    st.sampled_from(["none", "running", "deferred", "success", "failed", "upstream_failed", "skipped"]),
    st.sampled_from(["", "node-a"]),
)


@given(
    airflow=st.sampled_from([None, "queued", "running", "success", "failed"]),
    admitted=st.sampled_from([None, True, False]),
    outcome=st.sampled_from(["", "success", "failed", "cancelled"]),
    closing=st.booleans(),
    failing=st.sampled_from([None, Failing(node="node-a", reason="")]),
    nodes=st.sampled_from([(), NODES, DONE]),
    steps=st.lists(steps, max_size=6).map(tuple),
    reason=st.sampled_from(["", "It was refused."]),
    stop_requested=st.booleans(),
    released=st.sampled_from([None, 0, 1, 5]),
)
def test_whatever_is_known_there_is_one_sentence_and_nothing_bad_is_good(**facts: object) -> None:
    found = judge(RunFacts(**facts))  # type: ignore[arg-type]
    assert re.fullmatch(r"[^\n]{10,700}[.!?]", found.sentence), found.sentence
    if found.standing in ("succeeded", "empty"):
        assert facts["airflow"] == "success" and facts["outcome"] in ("", "success")
    if facts["airflow"] in (None, "queued", "running"):
        assert found.standing not in ENDED
    elif not facts["closing"]:
        assert found.standing in ENDED
