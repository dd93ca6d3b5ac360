"""What is not Airflow's own word about a run ends none: pages of a proxy, lists that are none."""

from __future__ import annotations

import httpx
import pytest

from gdi.kit.problem import ProblemError
from gdi.portal.airflow import AirflowClient

TOKEN = httpx.Response(200, json={"access_token": "t"})


def airflow(answer: httpx.Response, token: httpx.Response = TOKEN) -> AirflowClient:
    def served(request: httpx.Request) -> httpx.Response:
        given = token if request.url.path == "/auth/token" else answer
        return httpx.Response(given.status_code, content=given.content, headers=given.headers)

    return AirflowClient("http://airflow", "portal", lambda: "secret", transport=httpx.MockTransport(served))


PAGES = [
    httpx.Response(404, text="404 page not found"),
    httpx.Response(404, html="<h1>Not Found</h1>"),
    httpx.Response(200, html="<h1>Welcome</h1>"),
    httpx.Response(502, text="bad gateway"),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.status_code}-{page.text[:8]}")
async def test_a_proxys_page_says_nothing_of_a_run(page: httpx.Response) -> None:
    client = airflow(page)
    for ask in (client.dag_run("d", "r"), client.unfinished()):
        with pytest.raises(ProblemError) as refused:
            await ask
        assert refused.value.problem.status in (502, 503)
    if page.status_code != 200:  # a stop that was answered 200 is believed
        with pytest.raises(ProblemError):
            await client.stop("d", "r")
    await client.aclose()


async def test_airflows_own_404_says_that_there_is_no_such_run() -> None:
    client = airflow(httpx.Response(404, json={"detail": "The DagRun was not found"}))
    assert await client.dag_run("d", "r") is None and await client.stop("d", "r") is False
    await client.aclose()


@pytest.mark.parametrize("answer", [{}, {"dag_runs": None}, {"detail": "x"}], ids=str)
async def test_a_list_that_is_none_ends_no_run(answer: dict[str, object]) -> None:
    client = airflow(httpx.Response(200, json=answer))
    with pytest.raises(ProblemError, match="listed no DAG runs"):
        await client.unfinished()
    await client.aclose()


@pytest.mark.parametrize("status", [200, 503])
async def test_a_page_instead_of_a_token_is_airflow_away(status: int) -> None:
    client = airflow(httpx.Response(200, json={}), token=httpx.Response(status, html="<h1>Maintenance</h1>"))
    with pytest.raises(ProblemError) as refused:
        await client.dag_run("d", "r")
    assert refused.value.problem.status in (502, 503)
    await client.aclose()
