"""`drs://` inputs at the gateway: each is a file of the run's own datasets, as the archive lists it, or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.drs_server import OBJECTS, DrsServer, drs_object
from tests.support.gateway_world import Run, Server, World, c4gh, slug

HOST = "drs.archive.example"
SIZE, SUM = 100_000, "a" * 64
ANOTHER = "b" * 64
SEALED = SIZE + 2 * 28


class DrsWorld(World):
    """Whose archive has a DRS server."""

    def __init__(self, folder: Path) -> None:
        self.drs = DrsServer(lambda token: self.broker.owner(token, "sda") is not None)
        self.drs_server = Server(self.drs.app)
        super().__init__(folder)

    def environment(self) -> dict[str, str]:
        objects = self.drs_server.url + OBJECTS
        names = {HOST: objects, "gdi.1": objects, "mirror/gdi.1": objects}
        servers = names | {"sda.example": self.drs_server.url + "/objects/{dataset}/{path}"}
        return {**super().environment(), "NODE_GATEWAY_DRS_SERVERS": json.dumps(servers)}

    def close(self) -> None:
        super().close()
        self.drs_server.stop()


@pytest.fixture(scope="module", name="world")
def world_with_drs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrsWorld]:
    world = DrsWorld(tmp_path_factory.mktemp("gw"))
    for dataset, path, checksum in (
        ("DS-A", "deep/cohort.vcf.gz.c4gh", SUM),
        ("DS-A", "plain.vcf.gz.c4gh", ""),
        ("DS-A", "twin.vcf.gz", SUM),
        ("DS-A", "twin.vcf.gz.c4gh", ANOTHER),
        ("DS-B", "other.vcf.gz.c4gh", SUM),
    ):
        world.sda.files[dataset, path] = c4gh(SIZE)
        world.sda.sizes[dataset, path] = SIZE
        world.sda.checksums[dataset, path] = checksum
    yield world
    world.close()


@pytest.fixture(autouse=True)
def fresh(world: DrsWorld) -> Iterator[None]:
    world.drs.objects, world.drs.by_file = {}, {}
    world.drs.faults.clear()
    world.drs.asked.clear()
    world.drs.tokens.clear()
    world.sda.open = {"DS-A", "DS-B"}
    yield


def submitted(run: Run, *urls: str) -> httpx.Response:
    inputs = [{"url": url, "path": f"/gdi/work/{n}"} for n, url in enumerate(urls)]
    return run.call("POST", "/ga4gh/tes/v1/tasks", json=run.task(inputs=inputs))


def of_file(**more: Any) -> dict[str, Any]:
    return drs_object("urn:deep/cohort.vcf.gz.c4gh", SIZE, SUM, **more)


def test_an_object_becomes_the_archives_file_before_the_tes_sees_it(world: DrsWorld) -> None:
    run = world.new_run()
    world.drs.objects["314159"] = of_file()
    answer = submitted(run, f"drs://{HOST}/314159", "sda://DS-A/plain.vcf.gz.c4gh")
    assert answer.status_code == 200, answer.text
    task = world.tes.tasks[answer.json()["id"]]
    urls = [one["url"].partition("#") for one in task["inputs"]]
    assert [url for url, _, _ in urls] == ["sda://DS-A/deep/cohort.vcf.gz.c4gh", "sda://DS-A/plain.vcf.gz.c4gh"]
    assert world.read("/s3-encrypted/DS-A/deep/cohort.vcf.gz.c4gh", urls[0][2]).status_code == 200
    [token] = world.drs.tokens
    assert world.broker.owner(token, "sda") == run.id, "the user's token, narrowed to the archive"
    shown = run.get(answer.json()["id"])["inputs"][0]["url"]
    assert shown == "sda://DS-A/deep/cohort.vcf.gz.c4gh"
    [found] = [entry for entry in world.audit(run.id) if entry["action"] == "object-found"]
    assert found["dataset"] == "DS-A" and found["what"] == f"drs://{HOST}/314159 is {shown}"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        (f"drs://{HOST}/a%2Fb%3Ac", "a%2Fb%3Ac"),
        (f"drs://{HOST}/a%2fb%3ac", "a%2Fb%3Ac"),
        (f"drs://{HOST.upper()}/314~159", "314~159"),
        ("drs://gdi.1:314159", "314159"),
        ("drs://gdi.1:a/b:c", "a%2Fb%3Ac"),
        ("drs://mirror/gdi.1:10.5072/x", "10.5072%2Fx"),
    ],
)
def test_both_forms_of_a_uri_ask_for_one_id_that_is_encoded_once(world: DrsWorld, url: str, path: str) -> None:
    world.drs.objects |= {id_: of_file() for id_ in ("a/b:c", "314~159", "314159", "10.5072/x")}
    answer = submitted(world.new_run(), url)
    assert answer.status_code == 200, answer.text
    assert world.drs.asked == [f"{OBJECTS}/{path}"]


METHODS = [
    ("https", "https://sda.example/files/urn%3Adeep%2Fcohort.vcf.gz.c4gh/content"),
    ("https", "https://sda.example/s3-encrypted/DS-A/deep/cohort.vcf.gz.c4gh"),
    ("s3", "s3://archive/DS-A/deep/cohort.vcf.gz"),
]


@pytest.mark.parametrize("method", METHODS, ids=["by-id", "by-path", "in-s3"])
@pytest.mark.parametrize("size", [SIZE, SEALED, SEALED + 124], ids=["plain", "segments", "with-header"])
def test_an_access_method_tells_the_file_and_is_never_followed(
    world: DrsWorld, method: tuple[str, str], size: int
) -> None:
    access = {"type": method[0], "access_url": {"url": method[1]}}
    checksum = SUM if size == SIZE else ANOTHER  # of the encrypted form the listing has none
    world.drs.objects["x"] = drs_object("x", size, checksum, access_methods=[access])
    answer = submitted(world.new_run(), f"drs://{HOST}/x")
    assert answer.status_code == 200, answer.text
    assert str(world.tes.tasks[answer.json()["id"]]["inputs"][0]["url"]).startswith(
        "sda://DS-A/deep/cohort.vcf.gz.c4gh#"
    )
    assert world.drs.asked == [f"{OBJECTS}/x"]


def test_a_name_serves_where_it_is_one_files_and_the_checksum_is_its_own(world: DrsWorld) -> None:
    world.drs.objects["x"] = drs_object("x", SIZE, SUM, name="cohort.vcf.gz")
    assert submitted(world.new_run(), f"drs://{HOST}/x").status_code == 200
    world.drs.objects["y"] = drs_object("y", SIZE, SUM, name="plain.vcf.gz")  # the listing has no checksum of it
    answer = submitted(world.new_run(), f"drs://{HOST}/y")
    assert answer.status_code == 403 and slug(answer) == "object-differs" and "no checksum" in answer.json()["detail"]


@pytest.mark.parametrize("by", ["id", "path", "sda"])
@pytest.mark.parametrize(("path", "checksum"), [("twin.vcf.gz", SUM), ("twin.vcf.gz.c4gh", ANOTHER)])
def test_of_two_files_that_share_a_path_none_becomes_a_task(world: DrsWorld, path: str, checksum: str, by: str) -> None:
    """`sda://DS-A/twin.vcf.gz.c4gh` is the second: the first would be checked, and the second staged."""
    found = drs_object(f"urn:{path}" if by != "path" else "x", SIZE, checksum)
    if by == "path":
        found["access_methods"] = [{"type": "s3", "access_url": {"url": f"s3://archive/DS-A/{path}"}}]
    world.drs.objects["x"] = world.drs.by_file[f"DS-A/{path}"] = found
    tasks = len(world.tes.tasks)
    answer = submitted(world.new_run(), f"drs://sda.example/urn%3A{path}" if by == "sda" else f"drs://{HOST}/x")
    assert answer.status_code == 403 and slug(answer) == "object-differs", answer.text
    assert "another file" in answer.json()["detail"] and len(world.tes.tasks) == tasks


def test_sdas_own_objects_are_asked_for_by_dataset_and_path(world: DrsWorld) -> None:
    """SDA's v2 (cmd/download/handlers/drs.go): the URI has the file's id, the endpoint takes dataset and path."""
    id_ = "urn:deep/cohort.vcf.gz.c4gh"
    world.drs.by_file["DS-A/deep/cohort.vcf.gz.c4gh"] = drs_object(id_, SEALED, ANOTHER)
    answer = submitted(world.new_run(), "drs://sda.example/urn%3Adeep%2Fcohort.vcf.gz.c4gh")
    assert answer.status_code == 200, answer.text
    assert world.drs.asked == ["/objects/DS-A/deep/cohort.vcf.gz.c4gh"]
    world.drs.by_file["DS-A/deep/cohort.vcf.gz.c4gh"] = drs_object("urn:another", SEALED, ANOTHER)
    answer = submitted(world.new_run(), "drs://sda.example/urn%3Adeep%2Fcohort.vcf.gz.c4gh")
    assert answer.status_code == 403 and slug(answer) == "object-differs"
    answer = submitted(world.new_run(), "drs://sda.example/urn%3Aother.vcf.gz.c4gh")
    assert answer.status_code == 403 and slug(answer) == "dataset-not-granted"


OTHER = drs_object("urn:other.vcf.gz.c4gh", SIZE, SUM)
BUNDLE = of_file(contents=[{"name": "a", "id": "1"}])
HOSTILE: dict[str, tuple[dict[str, Any], str, int, str, str]] = {
    "of-another-dataset": (OTHER, "", 403, "dataset-not-granted", "no file of this run's datasets"),
    "unknown-file": (drs_object("x", SIZE, SUM), "", 403, "dataset-not-granted", "no file of this run's datasets"),
    "our-name-another-content": (
        drs_object("x", SIZE, ANOTHER, name="cohort.vcf.gz"),
        "",
        403,
        "object-differs",
        "checksum",
    ),
    "wrong-size": (of_file() | {"size": SIZE + 1}, "", 403, "object-differs", "100001 bytes"),
    "header-of-no-size": (of_file() | {"size": SEALED + 125}, "", 403, "object-differs", "bytes"),
    "wrong-checksum": (drs_object("urn:deep/cohort.vcf.gz.c4gh", SIZE, ANOTHER), "", 403, "object-differs", "checksum"),
    "bundle": (BUNDLE, "", 403, "forbidden-location", "bundle"),
    "redirect": (of_file(), "elsewhere", 502, "archive-error", "redirect"),
    "huge": (of_file(), "huge", 502, "archive-error", "262144 bytes"),
    "html": (of_file(), "html", 502, "archive-error", "not JSON"),
    "no-object": (of_file(), "no-object", 502, "archive-error", "no DRS object"),
    "busy": (of_file(), "busy", 503, "archive-away", "503"),
    "later": (of_file(), "later", 503, "archive-away", "preparing"),
    "forever": (of_file(), "forever", 503, "archive-away", "preparing"),
    "closed": (of_file(), "closed", 403, "access-denied", "does not show"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_not_that_file_never_becomes_a_task(world: DrsWorld, case: str) -> None:
    told, fault, status, expected, words = HOSTILE[case]
    world.drs.objects["x"] = told
    world.drs.faults |= {"x": fault} if fault else {}
    tasks, run = len(world.tes.tasks), world.new_run()
    answer = submitted(run, f"drs://{HOST}/x")
    assert answer.status_code == status and slug(answer) == expected and words in answer.json()["detail"], answer.text
    assert f"drs://{HOST}/x" in answer.json()["detail"] and "secret" not in answer.text
    assert len(world.tes.tasks) == tasks and world.drs.asked == [f"{OBJECTS}/x"]
    assert answer.headers.get("retry-after") == {"busy": "3", "later": "7", "forever": "300"}.get(case)
    if status == 403:
        assert any(expected in reason for reason in world.refusals(run.id))


@pytest.mark.parametrize(
    "url",
    [
        "drs://elsewhere.example/x",
        "drs://archive.example/x",
        "drs://gdi.2:x",
        "drs://other/gdi.1:x",
        f"drs://{HOST}:443/x",
        f"drs://user@{HOST}/x",
        f"drs://{HOST}/x?y=1",
        f"drs://{HOST}/x#gdic_x",
        f"drs://{HOST}/..",
        f"drs://{HOST}/a%2F..%2Fb",
        f"drs://{HOST}/a%0Ab",
        f"drs://{HOST}/a%FFb",
        f"drs://{HOST}/a/b",
        f"drs://{HOST}/",
        "drs://127.0.0.1/x",
        "drs:///x",
        "drs://",
    ],
)
def test_servers_that_the_operator_does_not_name_are_not_asked(world: DrsWorld, url: str) -> None:
    answer = submitted(world.new_run(), url)
    assert answer.status_code == 403 and slug(answer) == "forbidden-location", answer.text
    assert not world.drs.asked


def test_no_object_and_too_many_objects(world: DrsWorld) -> None:
    answer = submitted(world.new_run(), f"drs://{HOST}/none")
    assert answer.status_code == 404 and slug(answer) == "not-found"
    world.drs.asked.clear()
    answer = submitted(world.new_run(), *(f"drs://{HOST}/{n}" for n in range(21)))
    assert answer.status_code == 403 and slug(answer) == "too-many-files" and not world.drs.asked
    world.drs.objects |= {str(n): of_file() for n in range(20)}
    run = world.new_run()
    assert submitted(run, *(f"drs://{HOST}/{n}" for n in range(20))).status_code == 200
    assert submitted(run, *(f"drs://{HOST}/{n}" for n in range(20))).status_code == 200
    assert len(world.drs.asked) == 20, "what was found is known for some seconds, to that run"
    assert submitted(world.new_run(), f"drs://{HOST}/1").status_code == 200 and len(world.drs.asked) == 21


def test_the_workers_of_a_task_list_the_archive_once(world: DrsWorld) -> None:
    run, before = world.new_run(), len(world.sda.requests)
    world.drs.objects |= {str(n): of_file() for n in range(16)}
    assert submitted(run, *(f"drs://{HOST}/{n}" for n in range(16))).status_code == 200
    listings = [one["path"] for one in world.sda.requests[before:] if one["path"].endswith("/files")]
    assert sorted(listings) == sorted(set(listings)) and any("DS-A" in path for path in listings)
    assert len(world.drs.asked) == 16


def test_access_withdrawn_ends_what_an_object_is(world: DrsWorld) -> None:
    world.drs.objects["x"] = of_file()
    world.sda.open = {"DS-B"}
    answer = submitted(world.new_run(), f"drs://{HOST}/x")
    assert answer.status_code == 403 and slug(answer) == "access-denied" and "DS-A" in answer.text


def test_a_workflow_asks_for_size_and_time_of_an_object(world: DrsWorld) -> None:
    run = world.new_run()
    world.drs.objects["a/b"] = of_file()
    found = run.call("GET", f"/drs/{HOST}/a%252Fb", scope="workspace")
    assert found.status_code == 200, found.text
    assert found.json() == {"url": "sda://DS-A/deep/cohort.vcf.gz.c4gh", "size": SIZE, "modified": None}
    world.drs.objects["x"] = BUNDLE
    refused = run.call("GET", f"/drs/{HOST}/x", scope="workspace")
    assert refused.status_code == 403 and "bundle" in refused.json()["detail"]
    assert run.call("GET", f"/drs/{HOST}/none", scope="workspace").status_code == 404
    assert run.call("GET", f"/drs/{HOST}/x", scope="workspace", token="").status_code == 401
    assert any("bundle" in reason for reason in world.refusals(run.id))
    info = httpx.get(world.url + "/ga4gh/tes/v1/service-info", trust_env=False).json()
    assert "drs://" in info["storage"]
