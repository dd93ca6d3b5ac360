"""Whose stop a DAG run's note tells of, and that an old note of a run that goes on tells of none."""

from __future__ import annotations

import pytest

from gdi.contracts.run_endings import AIRFLOW_NOTE, COMMITTEE_NOTE, STOP_NOTE, StepFacts
from gdi_operators import ui
from gdi_operators.standing_facts import AirflowFacts

ENDED, AT_WORK = (StepFacts("analyse", "failed", "node-a"),), (StepFacts("analyse", "deferred", "node-a"),)


def test_the_tab_jobs_writes_the_note_that_is_read() -> None:
    assert f'note: "{AIRFLOW_NOTE}"' in (ui.HERE / "src" / "api.ts").read_text()


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
