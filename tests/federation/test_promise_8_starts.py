"""Promise 8: a start belongs to its user, its parameters and one use."""

from __future__ import annotations

from typing import Any

import pytest

from gdi.contracts import broker_api as m
from gdi.contracts.ids import make_run_id
from gdi.kit.problem import ProblemError
from gdi.local_federation.demo import WORKFLOW
from gdi.local_federation.parts import airflow
from tests.federation.driver import Driver, Started


def trigger(driver: Driver, conf: dict[str, Any], dag_run: str, *, token: str | None = None) -> Started:
    import httpx

    body = {"dag_run_id": dag_run, "logical_date": None, "conf": conf}
    path = f"/api/v2/dags/{WORKFLOW}/dagRuns"
    if token is None:
        answer = driver.portals["alice"].airflow("POST", path, json=body)
    else:
        answer = httpx.post(
            driver.layout.url("airflow") + path,
            headers={"Authorization": f"Bearer {token}"},
            json=body,
            timeout=30,
            trust_env=False,
        )
    assert answer.is_success, answer.text
    return Started(WORKFLOW, dag_run, make_run_id(WORKFLOW, dag_run))


def refused(driver: Driver, run: Started, reason: str) -> None:
    assert driver.finish(run) == "failed"
    log = driver.task_log(run, "admit")
    assert reason in log, log
    assert driver.all_tasks(run.run) == []


def test_user_b_can_neither_see_nor_use_user_as_grant(driver: Driver) -> None:
    grant = driver.portals["alice"].grant(WORKFLOW, driver.datasets)
    with driver.portals["bob"].broker() as bob:
        for call in (
            lambda: bob.create_ticket(
                grant.id, m.TicketRequest(workflow=WORKFLOW, parameters={"datasets": list(driver.datasets)})
            ),
            lambda: bob.get_grant(grant.id),
            lambda: bob.revoke_grant(grant.id),
        ):
            with pytest.raises(ProblemError) as error:
                call()
            assert error.value.problem.status in (403, 404)


def test_user_b_cannot_start_under_user_as_grant_from_airflows_form(driver: Driver) -> None:
    grant = driver.portals["alice"].grant(WORKFLOW, driver.datasets)
    token = airflow.login(driver.layout, driver.federation.secrets, "bob@lifescience-ri.eu")
    run = trigger(driver, {"grant": grant.id, "datasets": driver.datasets, "regions": 1}, "form-by-bob", token=token)
    refused(driver, run, "grant-not-yours")


def test_user_a_starts_under_the_own_grant_from_airflows_form(driver: Driver) -> None:
    grant = driver.portals["alice"].grant(WORKFLOW, driver.datasets)
    token = airflow.login(driver.layout, driver.federation.secrets, "alice@lifescience-ri.eu")
    run = trigger(driver, {"grant": grant.id, "datasets": driver.datasets, "regions": 1}, "form-by-alice", token=token)
    driver.succeed(run)


def test_a_ticket_starts_one_run_with_the_parameters_it_was_made_for(driver: Driver) -> None:
    portal = driver.portals["alice"]
    grant = portal.grant(WORKFLOW, driver.datasets)
    parameters: dict[str, Any] = {"datasets": driver.datasets, "regions": 1}
    with portal.broker() as broker:
        first = broker.create_ticket(grant.id, m.TicketRequest(workflow=WORKFLOW, parameters=parameters))
        other = broker.create_ticket(grant.id, m.TicketRequest(workflow=WORKFLOW, parameters=parameters))
        bound = broker.create_ticket(
            grant.id, m.TicketRequest(workflow=WORKFLOW, parameters=parameters, dag_run_id="the-one")
        )
    good = trigger(driver, {"ticket": first.ticket, **parameters}, "ticket-first-use")
    wrong = trigger(driver, {"ticket": other.ticket, **parameters, "regions": 2}, "ticket-other-parameters")
    stolen = trigger(driver, {"ticket": bound.ticket, **parameters}, "ticket-other-dag-run")
    driver.succeed(good)
    again = trigger(driver, {"ticket": first.ticket, **parameters}, "ticket-second-use")
    refused(driver, wrong, "ticket-mismatch")
    refused(driver, stolen, "ticket-mismatch")
    refused(driver, again, "ticket-used")
