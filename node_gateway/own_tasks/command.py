"""The operator's commands that a running gateway carries out: asked of its internal listener."""

from __future__ import annotations

from urllib.parse import quote

import httpx

from node_gateway.epochs.persons import PersonsError
from node_gateway.own_tasks.persons import PersonsAnswer, PersonsWish
from node_gateway.settings import Settings


def send(settings: Settings, dataset: str) -> str:
    """Has the node list the dataset's persons. PersonsError: a sentence."""
    return _ask(settings, "POST", f"{_path(dataset)}/persons").sentence


def look(settings: Settings, dataset: str) -> str:
    """How that stands."""
    answer = _ask(settings, "GET", f"{_path(dataset)}/persons")
    return f"{answer.state}: {answer.sentence}"


def open_(settings: Settings, dataset: str, wish: PersonsWish) -> str:
    """Opens the epoch of the persons who were listed, or says what would happen."""
    return _ask(settings, "POST", _path(dataset), wish).sentence


def _path(dataset: str) -> str:
    return f"/epochs/{quote(dataset, safe='')}"


def _ask(settings: Settings, method: str, path: str, wish: PersonsWish | None = None) -> PersonsAnswer:
    if settings.internal_tls_cert_file is not None:
        raise PersonsError("the internal listener wants a certificate: ask it yourself (docs/operate.md)")
    socket = settings.internal_socket
    transport = httpx.HTTPTransport(uds=str(socket)) if socket else None
    url = "http://gateway" if socket else f"http://{settings.internal_host}:{settings.internal_port}"
    with httpx.Client(transport=transport, base_url=url, timeout=120, trust_env=False) as client:
        try:
            answer = client.request(method, path, json=wish.model_dump(mode="json") if wish else None)
        except httpx.HTTPError as error:
            raise PersonsError(f"the gateway does not answer ({type(error).__name__}): start it first") from None
    if not answer.is_success:
        problem = answer.json() if answer.headers.get("content-type", "").startswith("application/problem") else {}
        detail = problem.get("detail", f"the gateway answered {answer.status_code}")
        raise PersonsError(f"{detail} {problem.get('action', '')}".strip())
    return PersonsAnswer.model_validate_json(answer.content)
