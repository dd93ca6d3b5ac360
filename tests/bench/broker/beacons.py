"""A question about a variant over 24 nodes, one of them dead, beside the slowest living node's own answer."""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import tempfile
import time
from pathlib import Path

import httpx
import yaml
from fastapi import FastAPI
from starlette.responses import Response

from gdi.contracts.beacon import VariantQuestion
from gdi.kit.jose import SigningKey
from tests.bench.figures import figure
from tests.support.gateway_world import Server
from tests.support.wire import bind
from tests.support.wires import BEACON
from token_broker.beacons import Beacons
from token_broker.enrolment import EnrolmentFile

NODES, ROUNDS = 24, 5
SLOWEST = 1.0  # seconds of the slowest Beacon's own work
TARGET = 1.5
QUESTION = VariantQuestion(assembly="GRCh37", chromosome="3", position=45_864_732, ref="T", alt="C")
NOBODY = {"meta": {}, "responseSummary": {"exists": False}, "response": {"resultSets": []}}


def slow_beacons() -> Server:
    app = bind(FastAPI(), BEACON)

    @app.post("/{number}/g_variants")
    async def ask(number: int) -> Response:
        await asyncio.sleep(SLOWEST * (number + 1) / NODES)
        return Response(json.dumps(NOBODY), media_type="application/json")

    return Server(app)


def nobodys_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def beacons() -> bool:
    server, key = slow_beacons(), SigningKey.generate().jwk()
    urls = [f"{server.url}/{n}" for n in range(NODES - 1)] + [f"http://127.0.0.1:{nobodys_port()}"]
    nodes = [
        {
            "id": f"node-{n:02}",
            "gateway_url": f"https://node-{n:02}.example",
            "public_key": key,
            "datasets": [f"DS-{n:02}*"],
            "sda_audience": f"https://sda.node-{n:02}.example",
            "tes_audience": f"https://tes.node-{n:02}.example",
            "beacon_url": url,
        }
        for n, url in enumerate(urls)
    ]
    with tempfile.TemporaryDirectory(prefix="gdi-b-") as folder:
        file = Path(folder) / "enrolment.yaml"
        file.write_text(yaml.safe_dump({"nodes": nodes}))

        async def measured() -> tuple[list[float], list[float], int]:
            asked = Beacons(EnrolmentFile(file))
            whole, slowest, missing = [], [], 0
            async with httpx.AsyncClient(trust_env=False) as http:
                for _ in range(ROUNDS):
                    began = time.perf_counter()
                    (await http.post(f"{urls[NODES - 2]}/g_variants", json=QUESTION.query())).raise_for_status()
                    slowest.append(time.perf_counter() - began)
                    began = time.perf_counter()
                    answer = await asked.ask(QUESTION)
                    whole.append(time.perf_counter() - began)
                    missing = sum(node.state == "missing" for node in answer.nodes)
            await asked.aclose()
            return whole, slowest, missing

        try:
            whole, slowest, missing = asyncio.run(measured())
        finally:
            server.stop()
    share = statistics.median(whole) / statistics.median(slowest)
    good = share <= TARGET and missing == 1
    text = (
        f"a question over {NODES} Beacons, one dead ({missing} named): {share:.2f} times the slowest living ({TARGET})"
    )
    return figure(text, good)
