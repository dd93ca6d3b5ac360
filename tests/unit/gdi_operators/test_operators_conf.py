"""What a DAG run's conf may hold: everything wrong is refused by name, a ticket is never repeated, the ticket's
parameters stay as they were given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.log import redact

from gdi.contracts.ids import make_run_id
from gdi.contracts.workflow import CatalogueEntry
from gdi.contracts.workflow_files import load
from gdi.kit.problem import ProblemError
from gdi_operators.runs import USED_TICKET, parameters_for_pod, read_conf, refusal

TICKET = "gdit_planted-secret"


@pytest.fixture
def entry(tmp_path: Path) -> CatalogueEntry:
    folder = tmp_path / "probe"
    folder.mkdir()
    (folder / "Snakefile").touch()
    parameters = {"mode": {"type": "string", "title": "Mode"}, "seconds": {"type": "number", "default": 3}}
    (folder / "workflow.yaml").write_text(
        yaml.safe_dump({"name": "probe", "title": "P", "version": "1", "parameters": parameters, "required": ["mode"]})
    )
    return load(folder)


@pytest.mark.parametrize(
    ("conf", "named"),
    [
        ({"mode": "ok", "colour": "red"}, "undeclared-parameter: conf has 'colour'"),
        ({"mode": "ok", "Ticket": TICKET}, "undeclared-parameter: conf has 'Ticket'"),
        ({}, "'mode' is a required property"),
        ({"mode": 3}, "mode: 3 is not of type 'string'"),
        ({"mode": "ok", "datasets": []}, "datasets: must be a list"),
        ({"mode": "ok", "datasets": "DS-A"}, "datasets: must be a list"),
        ({"mode": "ok", "datasets": [["DS-A"]]}, "datasets: must be a list"),
        ({"mode": "ok", "datasets": ["A", "A"]}, "none twice"),
        ({"mode": "ok", "datasets": ["../x"]}, "'../x' is not a dataset id"),
        ({"mode": "ok", "datasets": ["DS-A\n"]}, "is not a dataset id"),
        ({"mode": "ok", "grant": "g-1"}, "not both"),
        ({"mode": "ok", "ticket": ["planted-secret"]}, "ticket: must be a text"),
        ({"mode": "ok", "ticket": "planted-secret" * 100}, "ticket: must be a text"),
    ],
)
def test_a_wrong_conf_is_refused_by_name_and_its_ticket_never_repeated(
    entry: CatalogueEntry, conf: dict[str, Any], named: str
) -> None:
    with pytest.raises(AirflowFailException) as refused:
        read_conf({"ticket": TICKET, "datasets": ["DS-A"], **conf}, entry)
    assert named in str(refused.value)
    assert "planted-secret" not in str(refused.value)


def test_parameters_stay_as_given_for_the_ticket_and_get_defaults_for_the_pod(entry: CatalogueEntry) -> None:
    asked = read_conf({"ticket": TICKET, "grant": None, "datasets": ["B", "A"], "mode": "x"}, entry)
    assert asked.parameters == {"datasets": ["B", "A"], "mode": "x"}
    assert parameters_for_pod(asked, entry) == {"mode": "x", "seconds": 3}
    assert TICKET not in repr(asked)


def test_a_used_tickets_word_is_no_ticket_and_no_secret(entry: CatalogueEntry) -> None:
    asked = read_conf({"ticket": USED_TICKET, "datasets": ["A"], "mode": "x"}, entry)
    assert (asked.ticket, asked.grant, asked.used) == (None, None, True)
    assert redact("a word that is used everywhere") == "a word that is used everywhere"


def test_the_run_id_is_the_contracts() -> None:
    assert make_run_id("allele-frequency", "manual__1") == "r-c74723a5e54f4ca6678a"


def test_a_refusal_is_final_and_a_server_that_is_away_is_not() -> None:
    hostile = ProblemError(
        403, "access-denied", "No access.", refusals=["x", {"dataset": "D" * 999, "reason": "no-visa"}]
    )
    final = refusal(hostile)
    assert isinstance(final, AirflowFailException) and "no-visa" in str(final) and "D" * 129 not in str(final)
    for status in (429, 500, 503):
        assert not isinstance(refusal(ProblemError(status, "away", "Away.")), AirflowFailException)
