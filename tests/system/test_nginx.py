"""A real nginx before the bytes: what it carries past the gateway, and that nothing else gets through."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import httpx
import pytest

from tests.support.gateway_world import KEY, OTHER_KEY, Run, World, c4gh
from tests.support.nginx_kit import Nginx

FILE = ("DS-A", "cohort 1.vcf.gz.c4gh")
PATH = "/s3-encrypted/DS-A/cohort%201.vcf.gz.c4gh"
SIZE = 5_000_000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("ng"))
    made.sda.files, made.sda.sizes = {FILE: c4gh(SIZE), ("DS-B", "other.c4gh"): c4gh(9)}, {FILE: SIZE}
    made.sda.checksums = {FILE: "a" * 64}
    yield made
    made.close()


@pytest.fixture(scope="module")
def nginx(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    made = Nginx(tmp_path_factory.mktemp("nginx"), world)
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def _as_it_should_be(world: World) -> Iterator[None]:
    world.sda.open, world.sda.modes = {"DS-A", "DS-B"}, {}
    world.sda.requests.clear()
    yield


def started(world: World) -> tuple[Run, str, str]:
    run = world.new_run()
    task = run.submit(inputs=[{"url": f"sda://DS-A/{FILE[1]}", "path": "/gdi/work/in"}])
    return run, task, world.tes.capability(task)


def test_the_file_comes_by_nginx_with_the_users_token_which_the_tes_never_sees(world: World, nginx: Nginx) -> None:
    run, _, capability = started(world)
    answer = nginx.read(PATH, capability)
    assert answer.status_code == 200 and answer.content == world.sda.files[FILE]
    assert answer.headers["server"] == "nginx" and "set-cookie" not in answer.headers
    assert not any("user-sda" in value for value in answer.headers.values())
    asked = [r for r in world.sda.requests if r["path"].startswith("/s3-encrypted")]
    assert len(asked) == 2, "the gateway looked at its beginning, nginx fetched it"
    assert capability not in json.dumps(world.sda.requests)
    assert not any("x-door-secret" in r or "cookie" in r for r in world.sda.requests)
    assert [e["action"] for e in world.audit(run.id)].count("read") == 1
    head = nginx.read(PATH, capability, method="HEAD")
    assert head.headers["content-length"] == str(len(world.sda.files[FILE]))


def test_what_the_gateway_refuses_it_says_itself(world: World, nginx: Nginx) -> None:
    run, task, capability = started(world)
    for path, given, key, status, why in (
        (PATH, "gdic_" + "A" * 43, KEY, 401, "unknown"),
        (PATH, run.token(), KEY, 401, "unknown"),
        (PATH, capability, OTHER_KEY, 403, "another"),
        ("/s3-encrypted/DS-B/other.c4gh", capability, KEY, 403, "other files"),
        ("/s3-encrypted/DS-A/..%2F..%2FDS-B/other.c4gh", capability, KEY, 404, "nginx"),
    ):
        answer = nginx.read(path, given, key=key)
        assert answer.status_code == status and why in answer.text and b"crypt4gh" not in answer.content, path
    world.sda.open = {"DS-B"}
    withdrawn = nginx.read(PATH, capability)
    assert withdrawn.status_code == 403 and "withdrawn" in withdrawn.text
    world.tes.tasks[task]["state"] = "SYSTEM_ERROR"
    assert run.get(task, "BASIC")["logs"][0]["metadata"]["gdi_dataset"] == "DS-A"


def test_only_the_doors_of_data_are_open(world: World, nginx: Nginx) -> None:
    _, _, capability = started(world)
    for path in ("/audit", "/review", "/metrics", "/readyz", "/_door", f"/door{PATH}", "/", "/s3", "//audit"):
        answer = nginx.read(path, capability)
        assert answer.status_code in (403, 404) and "user-sda" not in str(answer.headers), path
    headers = {"Authorization": f"Bearer {capability}", "Client-Public-Key": base64.b64encode(KEY).decode()}
    with world.inside() as inside:
        for more in ({}, {"X-Door-Secret": ""}, {"X-Door-Secret": "x" * 64}):
            assert inside.get(f"/door{PATH}", headers=headers | more).status_code == 404
        told = inside.get(f"/door{PATH}", headers=headers | {"X-Door-Secret": nginx.secret})
        assert told.status_code == 204 and told.headers["x-archive-authorization"].startswith("Bearer user-sda")
    assert nginx.read("/variants/DS-A/x", capability).status_code in (403, 404)


def test_an_answer_that_breaks_off_is_never_taken_for_whole(world: World, nginx: Nginx) -> None:
    _, _, capability = started(world)
    world.sda.modes[FILE] = "cut"
    with pytest.raises(httpx.RemoteProtocolError):
        nginx.read(PATH, capability)
