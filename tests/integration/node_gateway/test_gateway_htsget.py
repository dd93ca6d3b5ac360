"""htsget at the gateway: a task's slices and nothing else, by tickets that lead through this gateway."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pysam
import pytest

from gdi.funnel import crypt4gh_proxy
from gdi.funnel.crypt4gh import SEALED, Body, packets
from gdi.local_federation.tes.archive import ArchiveReader
from gdi.local_federation.tes.config import ArchiveConfig
from gdi.local_federation.tes.slices import SliceReader
from gdi.local_federation.tes.transfer import Budget, TransferError
from tests.support.gateway_world import KEY, OTHER_KEY, TES_KEY, Run, World, slug, world_fixture  # noqa: F401

REGION = "htsget://DS-A/cohort.vcf.gz?referenceName=20&start=1000&end=2000"
PATH = "/variants/DS-A/cohort?format=VCF&referenceName=20&start=1000&end=2000"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A VCF of many BGZF blocks: positions 1 to 40,000 of two chromosomes."""
    plain = tmp_path_factory.mktemp("vcf") / "cohort.vcf"
    rows = (f"{c}\t{p}\t{'x' * 60}\tA\tG\t.\t.\t{p * 7919 % 1000003}\n" for c in (20, 21) for p in range(1, 40_001))
    plain.write_text("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + "".join(rows))
    pysam.tabix_compress(str(plain), str(plain) + ".gz")
    return Path(str(plain) + ".gz").read_bytes()


@pytest.fixture(autouse=True)
def server(world: World, cohort: bytes) -> Iterator[None]:
    world.htsget.files = {"DS-A/cohort": cohort, "DS-B/other": cohort}
    world.htsget.faults.clear()
    world.htsget.open, world.htsget.encrypted = {"DS-A", "DS-B"}, True
    world.htsget.requests.clear()
    yield


def started(world: World, *urls: str) -> tuple[Run, str, str]:
    run = world.new_run()
    task = run.submit(inputs=[{"url": u, "path": f"/gdi/work/{n}.vcf.gz"} for n, u in enumerate(urls or (REGION,))])
    return run, task, str(world.tes.tasks[task]["inputs"][0]["url"]).partition("#")[2]


def asked(
    world: World, path: str, capability: str, *, key: bytes | None = KEY, post: dict[str, Any] | None = None
) -> httpx.Response:
    headers = {"Authorization": capability}  # as Funnel sends it: what follows the #, without a scheme
    if key is not None:
        headers["Client-Public-Key"] = base64.b64encode(key).decode()
    with world.inside() as client:
        return client.request("GET" if post is None else "POST", path, headers=headers, json=post)


def whole(world: World, ticket: httpx.Response) -> bytes:
    """The blocks put together, as a client does."""
    assert ticket.status_code == 200, ticket.text
    found = b""
    with world.inside() as client:
        for block in ticket.json()["htsget"]["urls"]:
            if block["url"].startswith("data:"):
                found += base64.b64decode(block["url"].partition(",")[2])
            else:
                answer = client.get(urlsplit(block["url"]).path, headers=block["headers"])
                assert answer.status_code == 206, answer.text
                found += answer.content
    return found


def opened(data: bytes) -> bytes:
    """The Crypt4GH file as the TES reads it, its edit list applied."""
    found, start = packets(data)
    body = Body(found, TES_KEY)
    plain = b"".join(body.open(data[i : i + SEALED]) for i in range(start, len(data), SEALED))
    body.end()
    return plain


def positions(data: bytes) -> set[tuple[str, int]]:
    rows = (line.split("\t") for line in gzip.decompress(data).decode().splitlines() if line[0] != "#")
    return {(row[0], int(row[1])) for row in rows}


def test_a_region_comes_encrypted_for_the_tes_with_a_fresh_token_and_little_more_than_it(
    world: World, cohort: bytes
) -> None:
    run, task, capability = started(world)
    assert str(world.tes.tasks[task]["inputs"][0]["url"]).startswith(
        "htsget://variants/DS-A/cohort?format=VCF&referenceName=20&start=1000&end=2000#gdic_"
    ), "as Funnel has it"
    ticket = asked(world, PATH, capability)
    assert ticket.headers["content-type"] == "application/vnd.ga4gh.htsget.v1.3.0+json"
    assert world.htsget_server.url not in ticket.text and "user-sda" not in ticket.text
    data = whole(world, ticket)
    found = positions(opened(data))
    assert {("20", p) for p in range(1001, 2001)} <= found < positions(cohort)
    assert len(data) < len(cohort) / 2, "not the whole file"
    tokens = {r["authorization"] for r in world.htsget.requests}
    assert len(tokens) == len(world.htsget.requests) > 1, "a token of its own for ticket and block"
    assert "gdic_" not in json.dumps(world.htsget.requests)
    reads = [e for e in world.audit(run.id) if e["action"] == "read"]
    assert reads[0]["allowed"] and reads[0]["dataset"] == "DS-A" and "blocks" in reads[0]["what"]
    shown = run.get(task)["inputs"][0]["url"]
    assert shown.startswith("htsget://variants/DS-A/cohort") and "#" not in shown


def test_a_whole_file_may_be_had_in_parts_by_get_and_by_post(world: World, cohort: bytes) -> None:
    _, _, capability = started(world, "htsget://DS-A/cohort.vcf.gz")
    assert opened(whole(world, asked(world, "/variants/DS-A/cohort?format=VCF", capability))) == cohort
    assert positions(opened(whole(world, asked(world, "/variants/DS-A/cohort?class=header", capability)))) < positions(
        cohort
    )
    regions = [{"referenceName": "20", "start": 0, "end": 10}, {"referenceName": "21", "start": 39_000}]
    posted = asked(world, "/variants/DS-A/cohort", capability, post={"format": "VCF", "regions": regions})
    assert {("20", 1), ("21", 40_000)} <= positions(opened(whole(world, posted)))


def test_plain_data_are_passed_on_only_where_the_operator_said_so(world: World) -> None:
    _, _, capability = started(world)
    world.htsget.encrypted = False
    ticket = asked(world, PATH, capability)
    with world.inside() as client:
        block = ticket.json()["htsget"]["urls"][0]
        answer = client.get(urlsplit(block["url"]).path, headers=block["headers"])
    assert answer.status_code == 502 and "NotCrypt4GH" in answer.text and b"\x1f\x8b" not in answer.content


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/variants/DS-A/cohort?format=VCF&referenceName=20&start=1000&end=2001", 403),
        ("/variants/DS-A/cohort?format=VCF", 403),
        ("/variants/DS-A/other", 403),
        ("/variants/DS-B/other?format=VCF&referenceName=20&start=1000&end=2000", 403),
        ("/reads/DS-A/cohort?referenceName=20&start=1000&end=2000", 403),
        ("/variants/DS-A/%2e%2e/DS-B/other", 404),
        ("/variants/DS-A/cohort?referenceName=20&start=5&end=5", 400),
        ("/variants/DS-A/cohort?nothing=1", 400),
        ("/htsget/blocks/AAAA", 403),
        ("/htsget/blocks/" + "A" * 17_000, 403),
    ],
)
def test_other_slices_are_refused_before_the_archive_is_asked(world: World, path: str, status: int) -> None:
    run, _, capability = started(world)
    answer = asked(world, path, capability)
    assert answer.status_code == status, answer.text
    assert answer.json()["htsget"]["error"] and not world.htsget.requests
    assert asked(world, PATH, "gdic_" + "A" * 43).status_code == 401
    assert asked(world, PATH, run.token()).status_code == 401
    assert asked(world, PATH, capability, key=OTHER_KEY).status_code == 403
    assert asked(world, PATH, capability, key=None).status_code == 403
    assert not world.htsget.requests


def test_a_block_is_worth_nothing_to_another_task_or_after_the_end(world: World) -> None:
    run, task, capability = started(world)
    _, _, others = started(world)
    block = asked(world, PATH, capability).json()["htsget"]["urls"][1]
    path = urlsplit(block["url"]).path
    assert asked(world, path, others).status_code == 403
    assert asked(world, path, capability).status_code == 206
    world.tes.tasks[task]["state"] = "COMPLETE"
    run.get(task, "MINIMAL")
    assert asked(world, path, capability).status_code == 401


@pytest.mark.parametrize(
    ("fault", "status", "expected"),
    [
        ("elsewhere", 502, "ArchiveError"),
        ("plain", 502, "NotCrypt4GH"),
        ("busy", 503, "Unavailable"),
        ("no-ticket", 502, "ArchiveError"),
    ],
)
def test_a_ticket_that_does_not_serve_is_told_with_its_reason(
    world: World, fault: str, status: int, expected: str
) -> None:
    run, task, capability = started(world)
    world.htsget.faults["DS-A/cohort"] = fault
    answer = asked(world, PATH, capability)
    assert answer.status_code == status and expected in answer.json()["htsget"]["message"]
    world.tes.tasks[task]["state"] = "SYSTEM_ERROR"
    told = run.get(task, "BASIC")["logs"][0]["metadata"]
    assert told["gdi_error_class"] == expected and told["gdi_dataset"] == "DS-A"


@pytest.mark.parametrize("fault", ["cut", "gone"])
def test_a_block_that_breaks_off_is_never_taken_for_whole(world: World, fault: str) -> None:
    _, _, capability = started(world)
    world.htsget.faults["DS-A/cohort"] = fault
    ticket = asked(world, PATH, capability)
    with pytest.raises((httpx.RemoteProtocolError, AssertionError)):
        whole(world, ticket)


def test_the_servers_own_credentials_serve_and_are_not_shown(world: World) -> None:
    _, _, capability = started(world)
    world.htsget.faults["DS-A/cohort"] = "own-header"
    ticket = asked(world, PATH, capability)
    assert "of-the-servers-own" not in ticket.text
    assert positions(opened(whole(world, ticket)))


def test_access_withdrawn_is_denied_at_the_next_ticket_naming_the_dataset(world: World) -> None:
    _, _, capability = started(world)
    world.htsget.open = set()
    answer = asked(world, PATH, capability)
    assert answer.status_code == 403 and answer.json()["htsget"]["error"] == "PermissionDenied"
    assert "DS-A" in answer.json()["htsget"]["message"]


def test_slices_of_other_datasets_and_servers_are_refused_when_the_task_is_made(world: World) -> None:
    run = world.new_run()
    for url, expected in (
        ("htsget://DS-B/other.vcf.gz", "dataset-not-granted"),
        ("htsget://variants/DS-B/other", "dataset-not-granted"),
        ("htsget://archive.example:80/reads/NA1", "forbidden-location"),
        ("htsget://DS-A/cohort.vcf.gz#gdic_x", "forbidden-location"),
        ("htsget://DS-A/cohort.vcf.gz?start=1", "forbidden-location"),
        ("htsget://reads/DS-A", "forbidden-location"),
    ):
        task = run.task(inputs=[{"url": url, "path": "/gdi/work/a"}])
        answer = run.call("POST", "/ga4gh/tes/v1/tasks", json=task)
        assert answer.status_code == 403 and slug(answer) == expected, url


def test_service_info_is_the_servers_and_nothing_is_served_outside(world: World) -> None:
    with world.inside() as client:
        found = client.get("/variants/service-info").json()
    assert found["htsget"]["datatype"] == "variants"
    for path in (PATH, "/reads/service-info", "/htsget/blocks/x"):
        assert httpx.get(world.url + path, trust_env=False).status_code == 404
    info = httpx.get(world.url + "/ga4gh/tes/v1/service-info", trust_env=False).json()
    assert "htsget://" in info["storage"]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TES's key pair as files."""
    folder = tmp_path_factory.mktemp("keys")
    secret = TES_KEY.secret.private_bytes_raw()
    plain = b"c4gh-v1" + 2 * (b"\0\4" + b"none") + len(secret).to_bytes(2, "big") + secret
    name = "CRYPT4GH PRIVATE KEY"
    (folder / "sec").write_text(f"-----BEGIN {name}-----\n{base64.b64encode(plain).decode()}\n-----END {name}-----\n")
    (folder / "sec").chmod(0o600)
    (folder / "pub").write_bytes(KEY)
    return folder


def test_the_stand_in_tes_reads_a_slice(world: World, keys: Path, tmp_path: Path) -> None:
    _, task, capability = started(world)
    url = f"http+unix://{quote(str(world.socket), safe='')}"
    settings = ArchiveConfig(url=url, secret_key_file=keys / "sec", public_key_file=keys / "pub", retry_seconds=2)
    reader, target = SliceReader(ArchiveReader(settings)), tmp_path / "slice.vcf.gz"
    reader.fetch(str(world.tes.tasks[task]["inputs"][0]["url"]), None, target, Budget(10**8, 10))
    assert ("20", 1500) in positions(target.read_bytes())
    assert list(tmp_path.iterdir()) == [target], "no parts are left"
    world.htsget.faults["DS-A/cohort"] = "cut"
    for fault, why in (("cut", "cut"), ("gone", "502"), ("plain", "NotCrypt4GH")):
        world.htsget.faults["DS-A/cohort"] = fault
        with pytest.raises(TransferError, match=why) as failed:
            reader.fetch(f"htsget:/{PATH}#{capability}", None, target, Budget(10**8, 10))
        assert capability not in str(failed.value)


async def test_the_relay_before_funnel_gives_no_edit_list(world: World) -> None:
    """Funnel (storage/htsget/client.go) sends the bare capability, takes 206 only, and ignores edit lists."""
    _, _, capability = started(world)
    relay = await crypt4gh_proxy.serve(0, world.socket, TES_KEY)
    base = f"http://127.0.0.1:{relay.sockets[0].getsockname()[1]}"
    headers = {"Authorization": capability, "client-public-key": base64.b64encode(KEY).decode()}
    async with httpx.AsyncClient(trust_env=False, timeout=60) as funnel:
        ticket = (await funnel.get(base + PATH, headers=headers)).json()
        [block] = ticket["htsget"]["urls"]
        answer = await funnel.get(
            block["url"], headers=block["headers"] | {"client-public-key": headers["client-public-key"]}
        )
        assert answer.status_code == 206
        found, start = packets(answer.content)
        assert len(found) == 1, "one packet: a data key, no edit list"
        body = Body(found, TES_KEY)
        segments = range(start, len(answer.content), SEALED)
        assert ("20", 1500) in positions(b"".join(body.open(answer.content[i : i + SEALED]) for i in segments))
        denied = await funnel.get(base + PATH, headers=headers | {"Authorization": "gdic_" + "A" * 43})
        assert denied.status_code == 401 and denied.json()["htsget"]["error"] == "InvalidAuthentication"
        world.htsget.faults["DS-A/cohort"] = "cut"
        with pytest.raises(httpx.RemoteProtocolError):
            await funnel.get(
                block["url"], headers=block["headers"] | {"client-public-key": headers["client-public-key"]}
            )
    await crypt4gh_proxy.stop(relay)
