"""A portal's start of a run: tried again where Airflow itself failed, under the same run id, and not where it
refused.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from gdi.contracts import broker_api as m
from gdi.kit.secret_files import Secrets
from gdi.local_federation import portal
from gdi.local_federation.layout import Layout


class Broker:
    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def create_ticket(self, _: str, __: m.TicketRequest) -> Any:
        return SimpleNamespace(ticket="gdit_once")


@pytest.mark.parametrize(
    ("answers", "asked", "started"),
    [
        ([200], 1, True),
        ([500, 503, 200], 3, True),
        ([500, 409], 2, True),
        ([409], 1, False),
        ([403], 1, False),
        ([500] * 9, portal.TRIES, False),
    ],
)
def test_a_start_is_tried_again_where_airflow_failed_and_not_where_it_refused(
    answers: list[int], asked: int, started: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []

    def airflow(_: Any, __: str, ___: str, *, json: Any) -> httpx.Response:
        sent.append(json)
        return httpx.Response(answers[len(sent) - 1])

    monkeypatch.setattr(portal, "PAUSE", 0)
    monkeypatch.setattr(portal.DemoPortal, "airflow", airflow)
    monkeypatch.setattr(portal.DemoPortal, "broker", lambda _: Broker())
    mine = portal.DemoPortal(cast(Layout, None), cast(Secrets, None), "alice")
    grant = cast(m.Grant, SimpleNamespace(id="g-1"))
    if started:
        assert mine.start(grant, "probe", {}) == sent[-1]["dag_run_id"]
    else:
        with pytest.raises(portal.StartRefused, match=str(answers[0])):
            mine.start(grant, "probe", {})
    assert len(sent) == asked and all(s == sent[0] for s in sent)
