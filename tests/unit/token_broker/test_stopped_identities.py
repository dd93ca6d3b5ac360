"""A committee's stop of a person holds under another identity of theirs too, which shows the first one's visas."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gdi.kit.problem import ProblemError
from gdi.visas.visas import Passport, Visa
from token_broker.committees.stops import Stops
from token_broker.db.store import BrokerDatabase, stops
from token_broker.enrolment import Committee
from token_broker.runs.admission import Admission

ALICE, OTHER, DATASET = "alice@home.example", "alice@work.example", "EGAD00000000001"


def visa(kind: str, value: str, sub: str) -> Visa:
    now = time.time()
    return Visa("https://rems.example/", kind, value, "https://dac.example/", "dac", now, now + 3600, None, sub)


@pytest.mark.parametrize(("person", "refused"), [(ALICE, True), (OTHER, True), ("eve@home.example", False)])
async def test_a_stop_holds_for_each_identity(tmp_path: Path, person: str, refused: bool) -> None:
    store = BrokerDatabase.open(f"sqlite+aiosqlite:///{tmp_path}/broker.db")
    await store.create()
    row = {"committee": "dac-a", "person": person, "reason": "Left.", "by": "bob", "made_at": time.time()}
    async with store.write() as c:
        await c.execute(stops.insert().values(**row))
    committee = Committee(name="dac-a", members=["bob"], datasets=[DATASET])
    node = SimpleNamespace(id="node-a", how_to_apply="", apply_for=lambda _: None)
    enrolment = SimpleNamespace(node_of=lambda _: node, committee=lambda _: committee)
    passport = Passport([visa("ControlledAccessGrants", DATASET, ALICE), visa("LinkedIdentities", "x", OTHER)])

    async def answer(*_: object, **__: object) -> Any:
        return passport

    anything = cast(Any, SimpleNamespace(passport=answer, record=answer, current=enrolment))
    admission = Admission(anything, anything, anything, anything, anything, Stops(store, anything, anything))
    admission._userinfo = answer  # type: ignore[method-assign]
    with pytest.raises((ProblemError, AttributeError)) as met:  # past the stops: this node is not a whole one
        await admission.plan(grant="g", user=OTHER, run="r", datasets=[DATASET])
    assert ("stopped-by-committee" in str(met.value)) is refused
    await store.close()
