"""The data path: a capability opens the archive's file for the registered key while the run is open, and nothing
else.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.gateway_world import KEY, OTHER_KEY, Run, World, c4gh, wait, world_fixture  # noqa: F401

FILE = ("DS-A", "cohort.vcf.gz.c4gh")
PATH = "/s3-encrypted/DS-A/cohort.vcf.gz.c4gh"


@pytest.fixture(autouse=True)
def archive(world: World) -> Iterator[bytes]:
    """A file of 3 MB in DS-A, and everything as it should be."""
    body = c4gh(3_000_000)
    world.sda.files = {FILE: body, ("DS-B", "other.c4gh"): c4gh(100)}
    world.sda.sizes, world.sda.modes, world.sda.old = {FILE: 3_000_000}, {}, False
    world.sda.open = {"DS-A", "DS-B"}
    world.sda.checksums, world.sda.extra, world.sda.by_id = {}, [], False
    world.sda.requests.clear()
    yield body
    world.broker.away = False


def started(world: World) -> tuple[Run, str, str]:
    made = world.new_run()
    task = made.submit()
    return made, task, world.tes.capability(task)


def failed(world: World, run: Run, task: str) -> dict[str, str]:
    """What Snakemake learns of the failed task."""
    world.tes.tasks[task]["state"] = "SYSTEM_ERROR"
    metadata: dict[str, str] = run.get(task, "BASIC")["logs"][0]["metadata"]
    world.tes.tasks[task]["state"] = "RUNNING"
    return metadata


def test_the_tes_gets_the_file_with_a_fresh_token_at_each_read(world: World, archive: bytes) -> None:
    run, _, capability = started(world)
    for _ in range(2):
        answer = world.read(PATH, capability)
        assert answer.status_code == 200 and answer.content == archive
        assert (
            answer.headers["etag"] == '"abc"'
            and answer.headers["content-length"] == str(len(archive))
            and "set-cookie" not in answer.headers
        )
    reads = [r for r in world.sda.requests if r["path"] == PATH]
    assert len({r["authorization"] for r in reads}) == 2, "a token of its own for each read"
    assert not any("cookie" in r for r in world.sda.requests), "the archive's session cookie is never sent back"
    head = world.read(PATH, capability, method="HEAD")
    assert head.status_code == 200 and head.headers["content-length"] == str(len(archive))
    assert world.read("/s3/DS-A/cohort.vcf.gz.c4gh", capability).content == archive
    read = [e for e in world.audit(run.id) if e["action"] == "read"]
    assert [e["allowed"] for e in read] == [True] * 4 and read[0]["dataset"] == "DS-A"


@pytest.mark.parametrize(
    "case",
    [
        "unknown",
        "empty",
        "token",
        "other file",
        "other dataset",
        "other key",
        "no key",
        "nonsense key",
        "traversal",
        "encoded",
    ],
)
def test_a_stolen_or_misused_capability_gets_nothing_and_is_audited(world: World, case: str, archive: bytes) -> None:
    run, _, capability = started(world)
    before = len(world.refusals())
    asked = len(world.sda.requests)
    answer = {
        "unknown": lambda: world.read(PATH, "gdic_" + "A" * 43),
        "empty": lambda: world.read(PATH, "x"),
        "token": lambda: world.read(PATH, run.token()),
        "other file": lambda: world.read("/s3-encrypted/DS-A/other.c4gh", capability),
        "other dataset": lambda: world.read("/s3-encrypted/DS-B/other.c4gh", capability),
        "other key": lambda: world.read(PATH, capability, key=OTHER_KEY),
        "no key": lambda: world.read(PATH, capability, key=None),
        "nonsense key": lambda: world.read(PATH, capability, key=b"x"),
        "traversal": lambda: raw(world, "/s3-encrypted/DS-A/../DS-B/other.c4gh", capability),
        "encoded": lambda: raw(world, "/s3-encrypted/DS-A/%2e%2e/DS-B/other.c4gh", capability),
    }[case]()
    assert answer.status_code in (401, 403) and b"crypt4gh" not in answer.content
    assert len(world.sda.requests) == asked, "the archive was not even asked"
    assert len(world.refusals()) == before + 1
    assert capability not in json.dumps(world.audit()) and capability not in answer.text


def raw(world: World, path: str, capability: str) -> httpx.Response:
    """A request whose path no client has tidied up."""

    class Unix(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(str(world.socket))

    connection = Unix("gateway")
    connection.request(
        "GET",
        path,
        headers={"Authorization": f"Bearer {capability}", "Client-Public-Key": base64.b64encode(KEY).decode()},
    )
    answer = connection.getresponse()
    return httpx.Response(answer.status, content=answer.read())


def test_a_capability_is_worth_nothing_at_the_public_port(world: World) -> None:
    _, _, capability = started(world)
    headers = {"Authorization": f"Bearer {capability}", "Client-Public-Key": base64.b64encode(KEY).decode()}
    for path in (PATH, "/s3/DS-A/cohort.vcf.gz.c4gh"):
        before = len(world.refusals())
        assert httpx.get(world.url + path, headers=headers, trust_env=False).status_code == 404
        assert len(world.refusals()) == before + 1
    assert httpx.get(world.url + "/ga4gh/tes/v1/tasks", headers=headers, trust_env=False).status_code == 401


def test_access_withdrawn_at_the_archive_is_denied_at_the_next_read_naming_the_dataset(world: World) -> None:
    for old in (False, True):  # an old archive answers 200 with XML
        world.sda.open, world.sda.old = {"DS-A", "DS-B"}, old
        run, task, capability = started(world)
        assert world.read(PATH, capability).status_code == 200
        world.sda.open = {"DS-B"}
        answer = world.read(PATH, capability)
        assert answer.status_code == 403 and "AccessDenied" in answer.text and b"<" not in answer.content
        told = failed(world, run, task)
        assert (
            told["gdi_error_class"] == "AccessDenied"
            and told["gdi_dataset"] == "DS-A"
            and "withdrawn" in told["gdi_reason"]
        )
    assert httpx.get(world.url + "/livez", trust_env=False).status_code == 200


@pytest.mark.parametrize(
    ("slug_", "expected"),
    [("grant-inactive", "AccessDenied"), ("access-ended", "AccessDenied"), ("run-closed", "RunClosed")],
)
def test_what_the_broker_refuses_is_denied_with_its_reason(world: World, slug_: str, expected: str) -> None:
    run, task, capability = started(world)
    world.broker.refusals[run.id] = (403, slug_, "The user revoked the grant.")
    answer = world.read(PATH, capability)
    assert answer.status_code == 403
    told = failed(world, run, task)
    assert (
        told["gdi_error_class"] == expected
        and "revoked the grant" in told["gdi_reason"]
        and told["gdi_dataset"] == "DS-A"
    )


def test_a_closed_run_gets_no_data_and_a_later_attempt_may_use_what_an_earlier_one_began(world: World) -> None:
    run, _, capability = started(world)
    run.admit(2)
    assert world.read(PATH, capability).status_code == 200, "adopted by attempt 2"
    run.admit(2, state="closed")
    looks = world.broker.looks
    wait(lambda: world.read(PATH, capability).status_code == 403, what="the denial")
    assert world.broker.looks <= looks + 2, "at the next look at the broker"
    assert any(r.startswith("RunClosed") for r in world.refusals(run.id))


def test_a_finished_tasks_capability_has_ended(world: World) -> None:
    run, task, capability = started(world)
    world.tes.tasks[task]["state"] = "COMPLETE"
    run.get(task, "MINIMAL")
    assert world.read(PATH, capability).status_code == 401


@pytest.mark.parametrize(
    ("case", "status", "expected"),
    [
        ("missing", 404, "NotFound"),
        ("xml", 502, "ArchiveError"),
        ("unavailable", 502, "ArchiveError"),
        ("other bytes", 502, "NotCrypt4GH"),
        ("empty", 502, "Truncated"),
        ("short", 502, "Truncated"),
        ("cut file", 502, "Truncated"),
    ],
)
def test_a_bad_file_is_refused_before_the_first_byte_with_what_is_wrong(
    world: World, case: str, status: int, expected: str, archive: bytes
) -> None:
    run, task, capability = started(world)
    if case in ("xml", "unavailable"):
        world.sda.modes[FILE] = case
    else:
        world.sda.files[FILE] = {
            "other bytes": b"##fileformat=VCFv4.2\n" * 9,
            "empty": b"",
            "short": b"cry",
            "cut file": archive[: len(archive) // 2],
        }.get(case, b"")
    if case == "missing":
        del world.sda.files[FILE]
    answer = world.read(PATH, capability)
    assert answer.status_code == status and expected in answer.text and "<html>" not in answer.text
    told = failed(world, run, task)
    assert told["gdi_error_class"] == expected and told["gdi_dataset"] == "DS-A" and "DS-A" in told["gdi_reason"]


OLD = ("DS-A", "cohort.vcf.gz.c4gh.2019.c4gh")


def test_a_file_is_fetched_by_its_id_where_the_archive_can(world: World, archive: bytes) -> None:
    odd = "a+(b)[c].vcf.c4gh"
    world.sda.by_id = True
    world.sda.files = {OLD: c4gh(70_000), FILE: archive, ("DS-A", odd): c4gh(5)}
    world.sda.sizes |= {OLD: 70_000, ("DS-A", odd): 5}
    run = world.new_run()
    for path, wanted in ((FILE[1], archive), (odd, world.sda.files["DS-A", odd])):
        capability = world.tes.capability(run.submit(inputs=[{"url": f"sda://DS-A/{path}", "path": "/gdi/work/in"}]))
        answer = world.read(f"/s3-encrypted/DS-A/{quote(path)}", capability)
        assert answer.status_code == 200 and answer.content == wanted, answer.text[:200]


def test_another_file_than_the_listed_one_is_never_sent(world: World, archive: bytes) -> None:
    """An archive that finds files by an unanchored pattern sends the wrong one first."""
    cases: list[tuple[str, dict[tuple[str, str], str], int]] = [
        ("checksum is not", {FILE: "a" * 64, OLD: "b" * 64}, 3_000_000),
        ("no checksum of it", {}, 3_000_000),
        ("bytes more than the archive lists", {}, 2_000_000),
    ]
    for said, checksums, size in cases:
        world.sda.files = {OLD: c4gh(3_000_000), FILE: archive}
        world.sda.checksums, world.sda.sizes = checksums, {FILE: size, OLD: 3_000_000}
        run, task, capability = started(world)
        answer = world.read(PATH, capability)
        assert answer.status_code == 502 and said in answer.text, answer.text[:300]
        assert failed(world, run, task)["gdi_error_class"] == "ArchiveError"
    world.sda.files = {FILE: archive, OLD: c4gh(3_000_000)}
    world.sda.checksums, world.sda.sizes = {FILE: "a" * 64, OLD: "b" * 64}, {FILE: 3_000_000, OLD: 3_000_000}
    assert world.read(PATH, started(world)[2]).content == archive, "the checksum tells that it is the right one"


def test_two_files_of_one_path_are_an_error_that_names_both(world: World) -> None:
    world.sda.by_id = True
    world.sda.extra = [{"filePath": FILE[1], "fileId": "urn:of-another-submitter", "decryptedFileSize": 9}]
    run, _, capability = started(world)
    answer = world.read(PATH, capability)
    assert answer.status_code == 502
    assert f"urn:{FILE[1]}" in answer.text and "urn:of-another-submitter" in answer.text
    assert run.call("HEAD", f"/datasets/DS-A/{FILE[1]}").status_code == 502


def test_an_answer_that_breaks_off_breaks_off_for_the_tes_too(world: World, archive: bytes) -> None:
    run, task, capability = started(world)
    world.sda.modes[FILE] = "cut"
    with pytest.raises(httpx.RemoteProtocolError):
        world.read(PATH, capability)
    wait(lambda: failed(world, run, task).get("gdi_error_class") == "Truncated", what="the note of it")
    world.sda.modes.clear()
    _, _, capability = started(world)
    assert world.read(PATH, capability).content == archive, "the next task gets the whole"


def test_a_download_that_breaks_off_goes_on_by_range_with_a_fresh_token(world: World, archive: bytes) -> None:
    run, _, capability = started(world)
    world.sda.modes[FILE] = "cuts"
    assert world.read(PATH, capability).content == archive
    asked = [r for r in world.sda.requests if r["path"] == PATH]
    starts = [int(r.get("range", "bytes=0-")[6:-1]) for r in asked]
    assert starts[0] == 0 < starts[1] <= 1_000_000 and starts == sorted(set(starts))
    assert len({r["authorization"] for r in asked}) == len(asked) and asked[1]["if-range"] == '"abc"'
    assert [e["action"] for e in world.audit(run.id)].count("read") == 1


def test_a_broker_that_restarts_is_waited_for(world: World) -> None:
    import threading

    _, _, capability = started(world)
    world.broker.away = True
    timer = threading.Timer(0.7, lambda: setattr(world.broker, "away", False))
    timer.start()
    assert world.read(PATH, capability).status_code == 200
    timer.join()


def test_a_broker_that_stays_away_is_told_as_that(world: World) -> None:
    run, task, capability = started(world)
    world.broker.away = True
    answer = world.read(PATH, capability)
    world.broker.away = False
    assert answer.status_code == 503
    assert failed(world, run, task)["gdi_error_class"] == "Unavailable"


def test_a_reader_that_goes_away_gives_its_place_back(world: World) -> None:
    _, _, capability = started(world)
    world.sda.files[FILE] = c4gh(30_000_000)
    world.sda.sizes[FILE] = 30_000_000
    headers = {"Authorization": f"Bearer {capability}", "Client-Public-Key": base64.b64encode(KEY).decode()}
    for _ in range(12):  # more than MAX_STREAMS
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(world.socket))
        connection.sendall(request(headers))
        connection.recv(1000)
        connection.close()
    assert world.read(PATH, capability).status_code == 200


def request(headers: dict[str, str]) -> bytes:
    lines = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    return f"GET {PATH} HTTP/1.1\r\nHost: g\r\n{lines}\r\n".encode()


def test_a_funnel_is_denied_with_200_and_no_crypt4gh(world: World) -> None:
    """That Funnel panics at a 4xx; a body that is not Crypt4GH it reports as a clean error of the task."""
    _, _, capability = started(world)
    world.extra["TES_FLAVOUR"] = "funnel"
    try:
        world.stop()
        world.start()
        world.sda.open = set()
        answer = world.read(PATH, capability)
        assert (
            answer.status_code == 200
            and answer.headers["content-type"].startswith("text/plain")
            and not answer.content.startswith(b"crypt4gh")
        )
        assert world.read(PATH, "gdic_" + "A" * 43).status_code == 200
    finally:
        world.extra.clear()
        world.stop()
        world.start()


def test_inputs_have_size_and_time_by_the_archives_listing_and_only_for_the_runs_datasets(world: World) -> None:
    run = world.new_run()
    told = {"absent": "reference", "assembly": "GRCh37", "files": [], "samples": None, "people": None, "epochs": []}
    assert run.call("GET", "/datasets").json() == {"datasets": ["DS-A"], "described": {"DS-A": told}}
    answer = run.call("HEAD", "/datasets/DS-A/cohort.vcf.gz.c4gh")
    assert (
        answer.status_code == 200
        and answer.headers["content-length"] == "3000000"
        and answer.headers["last-modified"] == "Wed, 01 Jan 2025 00:00:00 GMT"
    )
    assert run.call("HEAD", "/datasets/DS-A/none.c4gh").status_code == 404
    assert run.call("HEAD", "/datasets/DS-B/other.c4gh").status_code == 403
    assert any("dataset-not-granted" in r for r in world.refusals(run.id))
    assert run.call("GET", "/datasets/DS-A/cohort.vcf.gz.c4gh").status_code == 405, "never content"
    other = world.new_run()
    world.sda.open = set()
    assert other.call("HEAD", "/datasets/DS-A/cohort.vcf.gz.c4gh").status_code == 403
    assert any("withdrawn" in r for r in world.refusals(other.id))


def test_the_workspace_shows_names_sizes_and_times_of_the_runs_own_files_and_no_content(world: World) -> None:
    run, other = world.new_run(), world.new_run()
    names = ["a/x.txt", "a/y z.txt", "b.bin"]
    run.declare(*names, "none", "d/", "e")
    for name in names:
        world.s3.put(f"{run.id}/{name}", os.urandom(10))
    world.s3.put(f"{other.id}/secret.txt", b"genotypes")
    found = run.call("GET", f"/workspace/{run.id}").json()
    assert (
        [f["path"] for f in found["files"]] == names
        and {f["size"] for f in found["files"]} == {4096}
        and found["next_page_token"] == ""
    )
    assert [
        f["path"] for f in run.call("GET", f"/workspace/{run.id}", params={"prefix": "a/"}).json()["files"]
    ] == names[:2]
    head = run.call("HEAD", f"/workspace/{run.id}/a/y%20z.txt")
    assert head.headers["content-length"] == "4096" and head.headers["last-modified"].endswith("GMT")
    assert run.call("HEAD", f"/workspace/{run.id}/none").status_code == 404
    assert run.call("GET", f"/workspace/{run.id}/b.bin").status_code == 405
    assert run.call("DELETE", f"/workspace/{run.id}/b.bin").status_code == 204
    assert run.call("HEAD", f"/workspace/{run.id}/b.bin").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/workspace/OTHER",
        "/workspace/OTHER/secret.txt",
        "/workspace/RUN/%2e%2e/OTHER/secret.txt",
        "/workspace/RUN/..%2fOTHER/secret.txt",
        "/workspace/RUN/a%23b",
        "/workspace/RUN/%252e%252e/x",
    ],
)
def test_another_runs_workspace_is_out_of_reach_however_it_is_written(world: World, path: str) -> None:
    run, other = world.new_run(), world.new_run()
    world.s3.put(f"{other.id}/secret.txt", b"genotypes")
    host, port = world.url.removeprefix("http://").split(":")
    for method in ("GET",) if path == "/workspace/OTHER" else ("HEAD", "DELETE"):
        connection = http.client.HTTPConnection(host, int(port))
        connection.request(
            method,
            path.replace("OTHER", other.id).replace("RUN", run.id),
            headers={"Authorization": f"Bearer {run.token()}"},
        )
        assert connection.getresponse().status in (403, 404)
    assert world.s3.client.head_object(Bucket="workspace", Key=f"{other.id}/secret.txt")
    assert len(world.refusals(run.id)) >= 1


def test_a_large_workspace_is_listed_page_by_page(world: World) -> None:
    run = world.new_run()
    other = world.new_run()
    for half in (range(13), range(13, 25)):
        run.declare(*(f"f{i:05}" for i in half))
    for i in range(25):
        world.s3.put(f"{run.id}/f{i:05}", b"")
    first = run.call("GET", f"/workspace/{run.id}", params={"page_size": 20}).json()
    assert len(first["files"]) == 20
    second = run.call("GET", f"/workspace/{run.id}", params={"page_token": first["next_page_token"]}).json()
    assert [f["path"] for f in first["files"] + second["files"]] == [f"f{i:05}" for i in range(25)] and second[
        "next_page_token"
    ] == ""
    assert (
        other.call("GET", f"/workspace/{other.id}", params={"page_token": first["next_page_token"]}).status_code == 422
    ), "another run's page token"


def test_of_the_workspace_only_declared_outputs_are_told_and_a_folder_is_one_entry(world: World) -> None:
    """An author's job writes bits into names of a folder's files, and asks for them by listing, page, prefix, token."""
    run = world.new_run()
    run.declare("a.txt", "d/", "z.txt", "d/genotype-0")
    for name in ("a.txt", "undeclared", "z.txt", *(f"d/genotype-{i}" for i in range(12))):
        world.s3.put(f"{run.id}/{name}", b"x")

    def listed(**query: Any) -> list[str]:
        found = run.call("GET", f"/workspace/{run.id}", params=query).json()
        assert all(f["size"] == (0 if f["folder"] else 4096) for f in found["files"])
        return [f["path"] for f in found["files"]]

    assert listed() == ["a.txt", "d", "z.txt"] and listed(prefix="d/") == ["d"]
    first = run.call("GET", f"/workspace/{run.id}", params={"page_size": 2}).json()
    assert [f["path"] for f in first["files"]] == ["a.txt", "d"]
    token = base64.urlsafe_b64decode(first["next_page_token"]).decode()
    assert "genotype" not in token and listed(page_token=first["next_page_token"]) == ["z.txt"]
    for name in ("genotype-1", "none"):
        inside = base64.urlsafe_b64encode(f"{run.id}/d/{name}".encode()).decode()
        assert listed(prefix=f"d/{name}") == [] and listed(page_token=inside) == ["z.txt"]
        assert run.call("HEAD", f"/workspace/{run.id}/d/{name}").status_code == 404
        assert run.call("DELETE", f"/workspace/{run.id}/d/{name}").status_code == 404
    for name in ("undeclared", "d", "d/genotype-0"):
        assert run.call("HEAD", f"/workspace/{run.id}/{name}").status_code == 404
    assert run.call("HEAD", f"/workspace/{run.id}/a.txt").status_code == 200
    world.policy(logs="open")
    try:
        assert "d/genotype-3" in listed_open(run), "with the rule off: names are told"
    finally:
        world.policy()
    assert run.call("DELETE", f"/workspace/{run.id}/d").status_code == 204 and listed() == ["a.txt", "z.txt"]
    assert world.s3.client.list_objects_v2(Bucket="workspace", Prefix=f"{run.id}/d/")["KeyCount"] == 0


def listed_open(run: Run) -> list[str]:
    return [f["path"] for f in run.call("GET", f"/workspace/{run.id}").json()["files"]]


def test_no_secret_is_left_behind(world: World) -> None:
    """No token of the user is in the gateway's database or log: none was ever stored."""
    _, _, capability = started(world)
    world.read(PATH, capability)
    stored = b"".join(f.read_bytes() for f in world.folder.glob("gateway.db*")) + world.log.read_bytes()
    assert world.broker.node_tokens
    assert not any(token.encode() in stored for _, _, token in world.broker.node_tokens)
    assert (
        capability.encode() not in stored
        and world.tes.password.encode() not in stored
        and world.s3.secret.encode() not in stored
    )
    assert b"Traceback" not in world.log.read_bytes()
