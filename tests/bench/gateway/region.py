"""htsget: how many bytes of a large file a region takes from the archive."""

from __future__ import annotations

import base64
import os
import random
import struct
import zlib
from urllib.parse import urlsplit

from tests.bench.figures import figure
from tests.bench.gateway.rig import world_of
from tests.support.gateway_world import KEY
from tests.support.htsget_server import EOF, slices

GB = float(os.environ.get("GDI_BENCH_REGION_GB", "2"))
TARGET = 1.3
ROWS = 200  # of a BGZF block


def block(text: bytes) -> bytes:
    """One BGZF block (SAMv1 4.1), stored: what counts is its size."""
    packer = zlib.compressobj(0, zlib.DEFLATED, -15)
    body = packer.compress(text) + packer.flush()
    head = struct.pack("<4BI2BH2B2H", 31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, len(body) + 25)
    return head + body + struct.pack("<2I", zlib.crc32(text), len(text))


def cohort(size: int) -> tuple[bytes, int]:
    """A VCF of about `size` bytes, and its last position."""
    filler, at = random.Random(19).randbytes(150).hex(), 0
    found = bytearray(block(b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"))
    while len(found) < size:
        rows = (f"20\t{at + n + 1}\t.\tA\tG\t.\t.\t{filler}\n" for n in range(ROWS))
        found += block("".join(rows).encode())
        at += ROWS
    return bytes(found + EOF), at


def region() -> bool:
    plain, last = cohort(int(GB * 1e9))
    start, end = last // 2, last // 2 + last // 100
    wanted = [(a, b) for a, b in slices(plain, {"referenceName": "20", "start": start, "end": end})][1:-1]
    region_bytes = sum(b - a for a, b in wanted)
    with world_of() as world:
        world.htsget.files = {"DS-A/cohort": plain}
        run = world.new_run()
        url = f"htsget://DS-A/cohort.vcf.gz?referenceName=20&start={start}&end={end}"
        task = run.submit(inputs=[{"url": url, "path": "/gdi/work/in.vcf.gz"}])
        capability = str(world.tes.tasks[task]["inputs"][0]["url"]).partition("#")[2]
        headers = {"Authorization": capability, "Client-Public-Key": base64.b64encode(KEY).decode()}
        path = f"/variants/DS-A/cohort?format=VCF&referenceName=20&start={start}&end={end}"
        got = 0
        with world.inside() as client:
            client.timeout = 600  # type: ignore[assignment]  # the tests' server looks through the file block by block
            ticket = client.get(path, headers=headers)
            ticket.raise_for_status()
            for one in ticket.json()["htsget"]["urls"]:
                if one["url"].startswith("data:"):
                    got += len(base64.b64decode(one["url"].partition(",")[2]))
                else:
                    got += len(client.get(urlsplit(one["url"]).path, headers=one["headers"]).content)
        share, sent = got / region_bytes, world.htsget.sent / region_bytes
    text = f"htsget, a region of 1 % of {GB:g} GB: {got / 1e6:.1f} MB fetched, {share:.2f} times the region's"
    return figure(f"{text} ({TARGET}); the archive sent {sent:.2f} times", max(share, sent) <= TARGET)
