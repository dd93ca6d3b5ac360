"""A task gets the section of a file that the run's own plan names, and the archive is asked for its segments only."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator

import pytest

from gdi.contracts.sections import Section
from gdi.contracts.urls import SdaUrl
from gdi.funnel.crypt4gh import SEALED, SEGMENT, Body, Plainest, edit_list, header_of, packets
from tests.support.gateway_world import TES_KEY, Run, World, slug, world_fixture  # noqa: F401

FILE = ("DS-A", "cohort.vcf.gz.c4gh")
PLAIN = os.urandom(40 * SEGMENT + 1234)


def section(number: int, plan: str = "DS-A.0") -> SdaUrl:
    return Section(SdaUrl.of(*FILE), plan, number).url


def sealed(plain: bytes) -> bytes:
    anew = Plainest(TES_KEY)
    return anew.header + b"".join(anew.seal(plain)) + b"".join(anew.end())


def opened(content: bytes) -> bytes:
    found, at = packets(content)
    body, plain = Body(found, TES_KEY), io.BytesIO()
    for start in range(at, len(content), SEALED):
        plain.write(body.open(content[start : start + SEALED]))
    body.end()
    return plain.getvalue()


@pytest.fixture(autouse=True)
def archive(world: World) -> Iterator[None]:
    world.sda.files, world.sda.sizes = {FILE: sealed(PLAIN)}, {FILE: len(PLAIN)}
    world.sda.modes, world.sda.checksums, world.sda.extra = {}, {}, []
    world.sda.open = {"DS-A", "DS-B"}
    world.sda.ranges = True
    world.sda.given = 0
    yield
    world.sda.ranges = False


def started(world: World, ranges: list[list[list[int | None]]], number: int = 0) -> tuple[Run, str, str]:
    run = world.new_run()
    world.s3.put(
        f"{run.id}/sections/DS-A.0.json", json.dumps({"format": "gdi-sections/1", "sections": ranges}).encode()
    )
    task = run.submit(inputs=[{"url": str(section(number)), "path": "/gdi/work/in.vcf.gz"}])
    return run, task, world.tes.capability(task)


def path(number: int = 0) -> str:
    return f"/s3-encrypted/{section(number).url_path}"


@pytest.mark.parametrize(
    "ranges",
    [
        [[0, 10]],
        [[0, 100], [20 * SEGMENT + 5, 20 * SEGMENT + 6], [-28, None]],
        [[3 * SEGMENT, 4 * SEGMENT]],
        [[SEGMENT - 1, SEGMENT + 1], [SEGMENT + 1, SEGMENT + 9], [30 * SEGMENT, None]],
        [[0, None]],
        [[7, 2**40]],
        [[5, 6], [3 * SEGMENT + 1, 3 * SEGMENT + 2], [9 * SEGMENT, 11 * SEGMENT + 1]],
    ],
    ids=lambda ranges: f"{len(ranges)} from {ranges[0][0]}",
)
@pytest.mark.parametrize("by_range", [True, False], ids=["ranges", "whole"])
def test_the_tes_gets_exactly_these_bytes(world: World, ranges: list[list[int | None]], by_range: bool) -> None:
    world.sda.ranges = by_range
    run, _, capability = started(world, [[], ranges], number=1)
    answer = world.read(path(1), capability)
    assert answer.status_code == 200, answer.text
    expected = b"".join(PLAIN[start:end] for start, end in ranges)
    assert opened(answer.content) == expected
    assert int(answer.headers["content-length"]) == len(answer.content) and "etag" not in answer.headers
    if by_range:
        assert world.sda.given <= len(expected) + (2 * len(ranges) + 2) * SEALED, "segments beside it at most"
    assert next(e["what"] for e in world.audit(run.id) if e["action"] == "read").startswith(f"GET {section(1)}")


def test_a_break_within_a_section_is_gone_on_with(world: World) -> None:
    world.sda.modes = {FILE: "cuts"}
    _, _, capability = started(world, [[[10, 11], [2 * SEGMENT, 35 * SEGMENT]]])
    answer = world.read(path(), capability)
    assert opened(answer.content) == PLAIN[10:11] + PLAIN[2 * SEGMENT : 35 * SEGMENT]


def test_a_section_is_of_the_capabilitys_file_and_plan_only(world: World) -> None:
    _, _, capability = started(world, [[[0, 10]], [[0, 20]]])
    for other in (path(1), f"/s3-encrypted/{section(0, 'other').url_path}", "/s3-encrypted/DS-A/cohort.vcf.gz.c4gh"):
        assert world.read(other, capability).status_code == 403
    assert world.sda.given == 0


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (b"", "no plan of sections"),
        (b'{"format":"gdi-sections/1","sections":[[["a",1]]]}', "no plan of sections"),
        (b'{"format":"gdi-sections/1","sections":[]}', "no number 0"),
        (b'{"format":"gdi-sections/1","sections":[[]]}', "is empty"),
        (b'{"format":"gdi-sections/1","sections":[[[9,9],[-0,0]]]}', "is empty"),
        (b'{"format":"gdi-sections/1","sections":[[[9,19],[1,5]]]}', "do not rise"),
        (b'{"format":"gdi-sections/1","sections":[[[99999999999999,null]]]}', "is empty"),
        (b'{"format":"gdi-sections/1","sections":[[' + b"[0,0]," * 200_000 + b"[0,1]]]}", "more than 1048576 bytes"),
        (None, "does not exist"),
    ],
    ids=[
        "nothing",
        "letters",
        "no such section",
        "no range",
        "empty ranges",
        "falling",
        "behind the end",
        "too many",
        "no plan",
    ],
)
def test_a_wrong_plan_is_refused_and_told(world: World, plan: bytes | None, why: str) -> None:
    run, _, capability = started(world, [])
    key = f"{run.id}/sections/DS-A.0.json"
    if plan is None:
        world.s3.client.delete_object(Bucket="workspace", Key=key)
    else:
        world.s3.put(key, plan)
    answer = world.read(path(), capability)
    assert answer.status_code in (400, 404) and why in answer.text and world.sda.given == 0
    assert why in world.refusals(run.id)[-1]


def test_of_a_file_that_may_have_an_edit_list_no_section_is_cut(world: World) -> None:
    stored = world.sda.files[FILE]
    found, at = packets(stored)
    world.sda.files = {FILE: header_of([*found, edit_list([0, len(PLAIN)], TES_KEY.public)]) + stored[at:]}
    _, _, capability = started(world, [[[0, 10]]])
    answer = world.read(path(), capability)
    assert answer.status_code == 502 and "more than one header packet" in answer.text


def test_the_same_of_what_snakemake_asks_and_tasks_may_name(world: World) -> None:
    run = world.new_run()
    answer = run.call("HEAD", f"/datasets/{section(3).url_path}")
    assert answer.status_code == 200 and answer.headers["content-length"] == str(len(PLAIN))
    for wrong in (".gdi/x.c4gh", ".gdi/sections/a/cohort.vcf.gz.c4gh", ".gdi/sections/a/b/cohort.vcf.gz.c4gh"):
        task = run.task(inputs=[{"url": f"sda://DS-A/{wrong}", "path": "/gdi/work/in"}])
        assert slug(run.call("POST", "/ga4gh/tes/v1/tasks", json=task)) == "forbidden-location"


def test_a_run_learns_what_its_nodes_operator_says_of_files(world: World) -> None:
    one = {"path": "chr1.vcf.gz.c4gh", "format": "vcf", "index": "chr1.vcf.gz.tbi.c4gh", "regions": ["1"]}
    world.describe("FILES1", files=[one], absent="unknown")
    try:
        found = world.new_run(datasets=("FILES1",)).call("GET", "/datasets").json()
    finally:
        (world.folder / "datasets" / "FILES1.yaml").unlink()
    assert found["datasets"] == ["FILES1"]
    described = found["described"]["FILES1"]
    assert {name: described["files"][0][name] for name in one} == one
    assert (described["absent"], described["assembly"]) == ("unknown", "GRCh37")
    assert "membership" not in described
