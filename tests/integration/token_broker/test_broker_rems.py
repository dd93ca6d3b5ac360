"""From a refusal to the data: the link that a refused start names, the application behind it, the handler's word, the
same start again without a new sign-in; and back.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest

from gdi.broker_client.client import BrokerClient
from tests.support.broker_kit import DATASETS, USERS, World, refused

pytest_plugins = ["tests.support.broker_fixtures"]
A, B = DATASETS["node-a"], DATASETS["node-b"]
ALICE, BOB = USERS["alice"], USERS["bob"]


def rems(world: World, user: str, method: str, path: str, **more: Any) -> httpx.Response:
    headers = {"x-rems-api-key": world.secrets["rems"], "x-rems-user-id": user}
    return httpx.request(method, f"{world.aai_url}/rems/api/{path}", headers=headers, trust_env=False, **more)


def command(world: World, user: str, name: str, application: int, **more: Any) -> dict[str, Any]:
    body = {"application-id": application, **more}
    found: dict[str, Any] = rems(world, user, "POST", f"applications/{name}", json=body).raise_for_status().json()
    return found


def submitted(world: World, user: str, *datasets: str) -> int:
    """The number of an application that was made by REMS's API alone."""
    items = [rems(world, user, "GET", "catalogue-items", params={"resource": d}).json()[0]["id"] for d in datasets]
    made = rems(world, user, "POST", "applications/create", json={"catalogue-item-ids": items}).json()
    number = int(made["application-id"])
    answers = [{"form": 1, "field": "purpose", "value": "Rare diseases of the eye."}]
    assert command(world, user, "save-draft", number, **{"field-values": answers}) == {"success": True}
    assert command(world, user, "submit", number) == {"success": True}
    return number


@pytest.fixture
def clean(world: World) -> Iterator[None]:
    """Bob begins without entitlements, and leaves none."""
    yield
    for dataset in (A, B):
        world.withdraw("bob", dataset)


def test_the_link_of_a_refusal_leads_to_access_without_a_new_sign_in(
    world: World, bob: BrokerClient, clean: None
) -> None:
    grant = world.grant(bob)
    request = world.admit_request(world.ticket(bob, grant.id))
    site = f"{world.aai_url}/rems"
    with world.airflow() as airflow, httpx.Client(trust_env=False, follow_redirects=True) as browser:
        error = refused(airflow.admit, request)
        links = {r["dataset"]: r["apply_url"] for r in (error.problem.model_extra or {})["refusals"]}
        assert links == {d: f"{site}/apply-for?resource={d}" for d in (A, B)} and links[A] in str(error)
        page = browser.get(f"{links[A]}&resource={B}").raise_for_status()  # several in one application, as REMS has it
        assert A in page.text and B in page.text and str(page.url) == f"{site}/application?items=1,2"
        form = {"items": "1,2", "purpose": "Rare <b>diseases</b>", "username": "bob"}
        assert browser.post(f"{site}/application", data={**form, "password": "a guess"}).status_code == 401
        assert rems(world, BOB, "GET", "my-applications").json() == []
        sent = browser.post(f"{site}/application", data={**form, "password": world.secrets["bob"]})
        assert "is sent" in sent.raise_for_status().text
        assert refused(airflow.admit, request).slug == "access-denied"  # asked for is not given
        nobody = {"username": "bob", "password": world.secrets["bob"]}
        assert browser.post(f"{site}/actions", data=nobody).status_code == 401
        handler = {"username": "alice", "password": world.secrets["alice"]}
        listed = browser.post(f"{site}/actions", data=handler).raise_for_status().text
        assert "Rare &lt;b&gt;diseases" in listed
        (secret,), (number,) = (re.findall(rf'name="{n}" value="([^"]+)"', listed) for n in ("action", "application"))
        decision = {"action": secret, "application": number, "command": "approve"}
        assert browser.post(f"{site}/decide", data=decision | {"action": "guessed"}).status_code == 403
        assert "approved" in browser.post(f"{site}/decide", data=decision).raise_for_status().text
        assert browser.post(f"{site}/decide", data=decision).status_code == 403  # the buttons of a list serve once
        assert airflow.admit(request).user == BOB
        assert command(world, ALICE, "revoke", int(number)) == {"success": True}
        next_one = world.admit_request(world.ticket(bob, world.grant(bob).id))
        assert refused(airflow.admit, next_one).slug == "access-denied"


def test_rejected_is_not_approved_and_nobody_decides_on_their_own(world: World, bob: BrokerClient, clean: None) -> None:
    number = submitted(world, BOB, A)
    forbidden = {"success": False, "errors": [{"type": "forbidden"}]}
    assert command(world, BOB, "approve", number) == forbidden
    assert command(world, ALICE, "revoke", number) == forbidden  # it was never approved
    assert command(world, ALICE, "submit", number) == forbidden
    assert command(world, ALICE, "reject", number, comment="Say more.") == {"success": True}
    assert command(world, ALICE, "approve", number) == forbidden
    assert rems(world, BOB, "GET", f"permissions/{BOB}").json() == {"ga4gh_passport_v1": []}
    assert rems(world, "eve", "GET", f"applications/{number}").status_code == 404
    state = rems(world, BOB, "GET", f"applications/{number}").json()
    assert state["application/state"] == "application.state/rejected"
    assert state["application/resources"][0]["resource/ext-id"] == A
    soon = (datetime.now(UTC) + timedelta(seconds=1000)).isoformat()
    again = submitted(world, BOB, A)
    assert command(world, ALICE, "approve", again, **{"entitlement-end": soon}) == {"success": True}
    (visa,) = rems(world, BOB, "GET", f"permissions/{BOB}").json()["ga4gh_passport_v1"]
    claims = jwt.decode(visa, options={"verify_signature": False})
    assert claims["ga4gh_visa_v1"]["value"] == A and abs(claims["exp"] - time.time() - 1000) < 60


def test_what_rems_refuses(world: World, bob: BrokerClient) -> None:
    assert httpx.get(f"{world.aai_url}/rems/api/catalogue", trust_env=False).status_code == 401
    assert [i["resid"] for i in rems(world, BOB, "GET", "catalogue").json()] == [A, B]
    unknown = rems(world, BOB, "POST", "applications/create", json={"catalogue-item-ids": [77]}).json()
    assert unknown["errors"] == [{"type": "invalid-catalogue-item", "catalogue-item-id": 77}]
    assert rems(world, BOB, "POST", "applications/create", json={"catalogue-item-ids": []}).status_code == 400
    assert rems(world, BOB, "POST", "applications/create", content=b"{").status_code == 400
    assert command(world, BOB, "submit", 10**9)["errors"] == [{"type": "application-not-found"}]
    made = rems(world, BOB, "POST", "applications/create", json={"catalogue-item-ids": [1]}).json()["application-id"]
    (missing,) = command(world, BOB, "submit", made)["errors"]
    assert missing == {"type": "t.form.validation/required", "form-id": 1, "field-id": "purpose"}
    assert rems(world, ALICE, "GET", f"applications/{made}").status_code == 404  # a draft is its author's
    for path in ("apply-for?resource=EGAD404", "application?items=3", "application?items="):
        assert httpx.get(f"{world.aai_url}/rems/{path}", trust_env=False).status_code == 404, path
