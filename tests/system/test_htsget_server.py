"""htsget-rs's own server behind the gateway, where `GDI_HTSGET` names its program (`cargo install htsget-axum`)."""

from __future__ import annotations

import base64
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pysam
import pytest

from tests.support.gateway_world import KEY, World, wait
from tests.support.processes import die_with_parent, free_port

PROGRAM = os.environ.get("GDI_HTSGET", "")
pytestmark = pytest.mark.skipif(not PROGRAM, reason="GDI_HTSGET does not name htsget-axum")
READS = 20_000


def reads(folder: Path) -> None:
    """A sorted, indexed BAM of two contigs; the sequences do not compress, so it has many blocks."""
    chance = random.Random(7)  # no secret
    header = pysam.AlignmentHeader.from_dict(
        {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": name, "LN": 10_000_000} for name in ("20", "21")]}
    )
    with pysam.AlignmentFile(str(folder / "sample.bam"), "wb", header=header) as file:
        for number in range(READS):
            read = pysam.AlignedSegment(header)
            read.query_name, read.reference_id = f"r{number}", number * 2 // READS
            read.reference_start, read.cigarstring = number % (READS // 2) * 100, "100M"
            read.query_sequence = "".join(chance.choices("ACGT", k=100))
            file.write(read)
    pysam.index(str(folder / "sample.bam"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("hs")
    (folder / "data/DS-A").mkdir(parents=True)
    reads(folder / "data/DS-A")
    tickets, data = (f"127.0.0.1:{free_port()}" for _ in range(2))
    (folder / "htsget.toml").write_text(
        f'ticket_server.addr = "{tickets}"\ndata_server.addr = "{data}"\ndata_server.local_path = "{folder}/data"\n'
        f'[[locations]]\nregex = ".*"\nsubstitution_string = "$0"\n'
        f'backend.kind = "File"\nbackend.scheme = "Http"\nbackend.authority = "{data}"\n'
        f'backend.local_path = "{folder}/data"\n'
    )
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [PROGRAM, "--config", folder / "htsget.toml"], stdout=log, stderr=log, preexec_fn=die_with_parent
        )

    def ready() -> bool:
        assert server.poll() is None, (folder / "log").read_text()
        try:
            return httpx.get(f"http://{tickets}/reads/service-info", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    wait(ready, what="htsget-axum's start")
    made = World(tmp_path_factory.mktemp("gw"))
    made.stop()
    made.extra |= {
        "HTSGET_URL": f"http://{tickets}",
        "HTSGET_BLOCK_URLS": f'["http://{data}/"]',
        "HTSGET_ENCRYPTION": "none",
    }
    made.start()
    yield made
    made.close()
    server.terminate()
    server.wait(60)


def test_a_region_of_a_real_server_is_a_file_by_itself(world: World, tmp_path: Path) -> None:
    run = world.new_run()
    region = "referenceName=21&start=500000&end=510000"
    task = run.submit(inputs=[{"url": f"htsget://DS-A/sample.bam?{region}", "path": "/gdi/work/a.bam"}])
    capability = str(world.tes.tasks[task]["inputs"][0]["url"]).partition("#")[2]
    headers = {"Authorization": capability, "Client-Public-Key": base64.b64encode(KEY).decode()}
    found = b""
    with world.inside() as client:
        ticket = client.get(f"/reads/DS-A/sample?format=BAM&{region}", headers=headers)
        assert ticket.status_code == 200, ticket.text
        for block in ticket.json()["htsget"]["urls"]:
            if block["url"].startswith("data:"):
                found += base64.b64decode(block["url"].partition(",")[2])
                continue
            assert urlsplit(block["url"]).path.startswith("/htsget/blocks/")
            answer = client.get(urlsplit(block["url"]).path, headers=block["headers"])
            assert answer.status_code == 206, answer.text
            found += answer.content
        other = client.get("/reads/DS-A/sample?format=BAM&referenceName=20", headers=headers)
        assert other.status_code == 403
        assert client.get("/reads/service-info").json()["htsget"]["datatype"] == "reads"
    (tmp_path / "a.bam").write_bytes(found)
    with pysam.AlignmentFile(str(tmp_path / "a.bam")) as file:
        starts = {(r.reference_name, r.reference_start) for r in file.fetch(until_eof=True)}
    assert {("21", s) for s in range(500_000, 510_000, 100)} <= starts
    assert len(starts) < READS * 0.7, "not the whole file; how near it comes is the index of the BAM"
