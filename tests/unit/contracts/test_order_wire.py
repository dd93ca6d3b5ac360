"""Agents and broker of different versions: what the first version's agents read and sent is still sent and read.

`tests/fixtures/orders/first.json` has the models of the first version as JSON Schema, and an example of each. Its
agents refuse fields that they do not know: so nothing may be added to what the broker sends them.
"""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from pydantic import BaseModel

from gdi.broker_client.node_agent import NodeAgentClient
from gdi.contracts import nodes as n
from gdi.contracts import orders as o
from gdi.kit.jose import SigningKey, verify
from tests.support.problems import problem_answer
from tests.support.wire import answers_of
from tests.support.wires import BROKER

FIRST = json.loads((Path(__file__).parents[2] / "fixtures" / "orders" / "first.json").read_text())
MODELS: dict[str, type[BaseModel]] = {
    name: getattr(o, name, None) or getattr(n, name) for side in FIRST.values() for name in side
}


@pytest.mark.parametrize("name", FIRST["broker"])
def test_a_first_agent_reads_what_the_broker_of_now_sends(name: str) -> None:
    """Each field at its largest: what the example has, as the models of now write it."""
    now = MODELS[name].model_validate(FIRST["broker"][name]["example"])
    sent = json.loads(now.model_dump_json())
    assert sent == FIRST["broker"][name]["example"]
    jsonschema.validate(sent, FIRST["broker"][name]["schema"])


@pytest.mark.parametrize("name", FIRST["agent"])
def test_the_broker_of_now_reads_what_a_first_agent_sends(name: str) -> None:
    sent = FIRST["agent"][name]["example"]
    read = MODELS[name].model_validate(sent).model_dump(mode="json")
    assert {field: read[field] for field in sent} == sent


def test_reasons_and_states_of_the_first_version_are_still_there() -> None:
    """A reason or a state that is dropped makes an older side's word unreadable."""
    reasons = FIRST["agent"]["PreflightReply"]["schema"]["properties"]["reason"]["anyOf"][0]["enum"]
    states = FIRST["broker"]["OrderStatus"]["schema"]["properties"]["state"]["enum"]
    assert set(reasons) <= set(o.ORDER_REASONS) and tuple(states) == o.ORDER_STATES


def test_an_order_is_signed_in_the_first_form() -> None:
    key = SigningKey.generate()
    given: dict[str, Any] = FIRST["broker"]["OrderClaims"]["example"] | {"jti": secrets.token_hex(16)}
    given["deadline"] = time.time() + 60
    claims = o.OrderClaims.model_validate(given)
    token = claims.sign(key, issuer="https://broker.test", lifetime=60, typ=o.TYPE)
    assert (o.TYPE, o.QUESTION_TYPE) == ("order+jwt", "preflight+jwt")
    found = verify(token, [key.jwk()], issuer="https://broker.test", audience="node-a", typ="order+jwt")
    for frame in ("iss", "aud", "iat", "exp"):
        found.pop(frame)
    jsonschema.validate(found, FIRST["broker"]["OrderClaims"]["schema"])


async def test_an_agent_of_now_leaves_out_for_a_first_broker_what_that_does_not_know() -> None:
    """The broker of then refuses unknown fields; its answer makes the agent send the heartbeat once more."""
    seen: list[dict[str, Any]] = []

    def first_broker(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        try:
            jsonschema.validate(seen[-1], FIRST["agent"]["Heartbeat"]["schema"])
        except jsonschema.ValidationError:
            return problem_answer(422, "invalid-request", "limits")
        return httpx.Response(204)

    client = NodeAgentClient("https://broker.test", lambda: "a.b.c", transport=answers_of(BROKER, first_broker))
    newer = {"limits": ["Nothing may leave."], "terms": {"DS-1": ["DUO:0000042"]}}
    beat = n.Heartbeat.model_validate({**FIRST["agent"]["Heartbeat"]["example"], **newer})
    await client.beat("node-a", beat)
    await client.aclose()
    assert [("terms" in one, "limits" in one) for one in seen] == [(True, True), (False, True), (False, False)]
