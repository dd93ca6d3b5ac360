"""One api-server, one broker and one browser, signed in by the form as a person does, for all tests of the pages.
Loaded by `pytest_plugins`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.browser import Browser
from tests.support.debian import program
from tests.support.ui_world import DAG, Airflow, Broker

FRAME = "document.querySelector('iframe')?.contentDocument"


@pytest.fixture(scope="session")
def chromium() -> Path:
    return program("chromium")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    made = Broker(tmp_path_factory.mktemp("broker-ui"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def airflow(chromium: Path, broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    made = Airflow(tmp_path_factory.mktemp("airflow-ui"), broker.served.url)
    yield made
    made.close()


def sign_in(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.wait("document.querySelectorAll('input').length === 2", "the login form", timeout=90)
    for number, value in enumerate(("admin", "pw")):
        browser.evaluate(f"document.querySelectorAll('input')[{number}].focus()")
        browser.type(value)
    browser.press("Enter")
    browser.wait(
        "location.pathname === '/' && document.querySelector('nav, a[href*=dags]')", "Airflow's home page", timeout=90
    )


@pytest.fixture(scope="session")
def page(chromium: Path, airflow: Airflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(chromium, tmp_path_factory.mktemp("browser") / "b") as browser:
        sign_in(browser, airflow.url)
        yield browser


@pytest.fixture
def tab(page: Browser, airflow: Airflow) -> Callable[[str, str], None]:
    """Opens a tab of a run, `jobs` or `results`."""

    def open_tab(dag_run_id: str, name: str = "jobs") -> None:
        page.problems.clear()
        page.open(f"{airflow.url}/dags/{DAG}/runs/{dag_run_id}/plugin/gdi-{name}")

    return open_tab


def words(page: Browser) -> str:
    return str(page.evaluate(f"{FRAME}.body.innerText"))


def shown(page: Browser, text: str) -> None:
    page.wait(
        f"({FRAME}?.body?.innerText ?? '').includes({json.dumps(text)})", f"{text!r} on the page in the tab", timeout=90
    )
