"""A run's trace goes on at the gateway: to TES and archive, into log lines and as spans; with no path or secret."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway_world import World, c4gh, wait
from tests.support.otlp_receiver import OtlpReceiver, otlp_receiver

TRACE, FILE, PATH = "4bf92f3577b34da6a3ce929d0e0e4736", "cohort.vcf.gz.c4gh", "/s3-encrypted/DS-A/cohort.vcf.gz.c4gh"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as made:
        yield made


@pytest.fixture(scope="module")
def traced_world(tmp_path_factory: pytest.TempPathFactory, receiver: OtlpReceiver) -> Iterator[World]:
    class TracedWorld(World):
        def environment(self) -> dict[str, str]:
            return {**super().environment(), **receiver.environment("node-gateway")}

    made = TracedWorld(Path(tmp_path_factory.mktemp("traced")))
    made.sda.files = {("DS-A", FILE): c4gh(1000)}
    yield made
    made.close()


def test_what_the_broker_says_is_a_runs_trace_reaches_tes_and_archive(
    traced_world: World, receiver: OtlpReceiver
) -> None:
    world = traced_world
    for trace, expected in (("", None), ("javascript:alert(1)", None), (TRACEPARENT, TRACEPARENT)):
        world.broker.trace = trace
        world.sda.requests.clear()
        run = world.new_run()
        task = run.submit()
        assert world.tes.tasks[task]["tags"].get("traceparent") == expected
        capability = world.tes.capability(task)
        assert world.read(PATH, capability).status_code == 200
        assert {r.get("traceparent") for r in world.sda.requests} == {expected}, trace
    wait(lambda: len(receiver.spans) >= 2, 30, "two spans")
    assert {(s.service, s.trace, s.parent) for s in receiver.spans} == {("node-gateway", TRACE, TRACEPARENT[36:52])}
    names = {s.name for s in receiver.spans}
    assert {"POST /ga4gh/tes/v1/tasks"} < names and any(n.startswith("GET /s3-encrypted/") for n in names)
    keys = {key for s in receiver.spans for key, _ in s.attributes}
    assert keys == {"http.request.method", "http.route", "http.response.status_code"}
    for secret in (FILE, run.id, task, capability, "alice", "Bearer"):
        assert secret.encode() not in receiver.raw, secret
    lines = [line for line in world.log.read_text().splitlines() if f"trace={TRACE}" in line]
    assert any("tes/v1/tasks" in line for line in lines) and any("/s3-encrypted/" in line for line in lines)
