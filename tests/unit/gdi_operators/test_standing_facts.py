"""Whose stop a DAG run's note tells of, and that an old note of a run that goes on tells of none."""

from __future__ import annotations

import pytest

from gdi.contracts.run_endings import StepFacts
from gdi.portal.airflow import COMMITTEE_NOTE, STOP_NOTE
from gdi_operators import standing_facts
from gdi_operators.standing_facts import AIRFLOW_NOTE, AirflowFacts

ENDED, AT_WORK = (StepFacts("analyse", "failed", "node-a"),), (StepFacts("analyse", "deferred", "node-a"),)


def test_portal_and_airflow_write_the_same_notes() -> None:
    assert (STOP_NOTE, COMMITTEE_NOTE) == (standing_facts.STOP_NOTE, standing_facts.COMMITTEE_NOTE)


@pytest.mark.parametrize(
    ("note", "state", "steps", "whose"),
    [
        ("", "failed", ENDED, None),
        ("a note of a person", "failed", ENDED, None),
        (STOP_NOTE, "failed", (), ""),
        (STOP_NOTE, "running", ENDED, ""),
        (STOP_NOTE, "running", AT_WORK, None),
        (AIRFLOW_NOTE, "running", ENDED, "airflow"),
        (COMMITTEE_NOTE + "dac: Because.", "failed", (), "dac: Because."),
        (COMMITTEE_NOTE + "dac: Because.", "running", AT_WORK, None),
    ],
    ids=["none", "another", "over", "being ended", "goes on", "in Airflow", "committee", "committee, goes on"],
)
def test_whose_stop_it_was(note: str, state: str, steps: tuple[StepFacts, ...], whose: str | None) -> None:
    assert AirflowFacts(state=state, note=note, steps=steps).stopped_by == whose
