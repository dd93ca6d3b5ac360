"""The chart's Funnel with Kubernetes compute: the analysis of real genomes with workers and executors as pods, and what
a task may not do there.

GDI_FUNNEL names the program; without it nothing here runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gdi.contracts.tes import FINAL
from gdi.local_federation import cohort
from gdi.local_federation.demo import compare, read_answer, run
from gdi.local_federation.federation import COHORT
from gdi.local_federation.parts import s3
from tests.federation.driver import Driver
from tests.kubernetes import funnel
from tests.kubernetes.cluster import Cluster, until
from tests.kubernetes.federated import started
from tests.kubernetes.funnel import FunnelFederation, FunnelGateway

pytestmark = pytest.mark.skipif(
    funnel.program() is None, reason="THE CHART'S FUNNEL WAS NOT RUN: set GDI_FUNNEL=/path/to/funnel"
)
IMAGE = "gdi-task:1"


@pytest.fixture(scope="module")
def federation(cluster: Cluster, broker_image: None, run_images: None) -> Iterator[FunnelFederation]:
    funnel.load(cluster)
    with started(FunnelFederation, cluster, slots=24) as made:
        yield made


@pytest.fixture(scope="module")
def driver(federation: FunnelFederation) -> Driver:
    return Driver(federation)


@pytest.fixture(scope="module")
def node(federation: FunnelFederation) -> FunnelGateway:
    found = federation.gateways[federation.layout.nodes[0]]
    assert isinstance(found, FunnelGateway)
    return found


def send(
    driver: Driver,
    node: FunnelGateway,
    command: list[str],
    *,
    image: str = IMAGE,
    more: dict[str, Any] | None = None,
    **executor: Any,
) -> str:
    """A task of the node's operator; its id."""
    body = {
        "executors": [{"image": image, "command": command, **executor}],
        "resources": {"cpu_cores": 1, "ram_gb": 0.1},
        **(more or {}),
    }
    answer = driver.tes(node.name, "POST", "/tasks", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def task(driver: Driver, node: FunnelGateway, number: str) -> dict[str, Any]:
    found: dict[str, Any] = (
        driver.tes(node.name, "GET", f"/tasks/{number}", params={"view": "FULL"}).raise_for_status().json()
    )
    return found


def ended(driver: Driver, node: FunnelGateway, number: str, seconds: float = 180) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = task(driver, node, number)
        return found if found["state"] in FINAL else None

    return until(f"task {number} ends", look, seconds, every=1, why=lambda: pods(node))


def executor_of(found: dict[str, Any]) -> dict[str, Any]:
    """The log of its (last) executor."""
    log: dict[str, Any] = found["logs"][-1]["logs"][-1]
    return log


def pods(node: FunnelGateway) -> str:
    said = node.cluster.kubectl("get", "pods", "-n", node.tasks, "-o", "wide", check=False)
    return said + node.cluster.kubectl(
        "logs", "-n", node.tasks, "-l", "app=funnel-worker", "-c", "worker", "--tail=20", check=False
    )


def names(node: FunnelGateway, kind: str, *more: str) -> list[str]:
    return node.cluster.kubectl("get", kind, *more, "-o", "name").split()


@pytest.mark.timeout(1200)
def test_the_analysis_runs_in_the_charts_own_funnel(federation: FunnelFederation, driver: Driver) -> None:
    pooled = cohort.pooled(COHORT, federation.layout.folder("pooled"))
    began = time.monotonic()
    _, broker_run = run(federation, timeout=1000)
    print(f"\nthe analysis took {time.monotonic() - began:.0f} s")
    answer = compare(read_answer(federation.layout.results / broker_run / "answer.tsv"), pooled, federation.layout)
    assert not answer.wrong and answer.exact >= 100
    for name in federation.layout.nodes:
        tasks = driver.tasks(name, broker_run)
        assert {t["state"] for t in tasks} == {"COMPLETE"} and len({t["tags"]["gdi-job"] for t in tasks}) == len(tasks)


def test_a_command_has_its_own_words_environment_streams_and_exit_code(driver: Driver, node: FunnelGateway) -> None:
    script = 'printf "%s|" "$@"; echo "$A|$HOME|$(id -u)|$(pwd)"; echo wrong >&2; exit 7'
    words = ["a b", "'q'", "$(HOME)", "$HOME", "--volume", ""]
    number = send(
        driver, node, ["sh", "-c", script, "x", *words], env={"A": "x --volume /:/host:ro $(HOME)"}, workdir="/tmp"
    )  # no stdin: Funnel empties it
    found = ended(driver, node, number)
    said = executor_of(found)
    assert found["state"] == "EXECUTOR_ERROR" and said["exit_code"] == 7, (
        "Funnel's own executor for Kubernetes says COMPLETE"
    )
    assert said["stdout"] == "".join(f"{w}|" for w in words) + "x --volume /:/host:ro $(HOME)|/tmp|10001|/tmp\n"
    assert said["stderr"] == "wrong\n"


def test_a_task_has_no_token_no_network_and_no_way_to_its_workers_secrets(driver: Driver, node: FunnelGateway) -> None:
    """What it leaves as a link is not followed where outputs are stored, in the container that holds the node's
    keys.
    """
    look = """
import os, socket, sys
for address in ((sys.argv[1], 6443), (sys.argv[2], 9090)):
    try:
        socket.create_connection(address, timeout=3)
        print("reached", address)
    except OSError:
        pass
print(os.path.exists("/var/run/secrets"), os.path.exists("/secrets"),
    sorted(k for k in os.environ if "C4GH" in k or k.startswith("GDI_")))
os.symlink("/secrets/crypt4gh/secret.pem", "/out/key")
os.symlink("/out/real", "/out/link")
open("/out/real", "w").write("its own")
os.remove("/gdi-streams/err"); os.symlink("/secrets/crypt4gh/secret.pem", "/gdi-streams/err")
"""
    addresses = [
        node.cluster.nodes[0].address,
        node.cluster.get("service", f"{node.name}-funnel", node.namespace)["spec"]["clusterIP"],
    ]
    places = {name: f"s3://{node.storage}/{s3.workspace_bucket(node.name)}/by-hand/{name}" for name in ("key", "link")}
    kept = send(
        driver,
        node,
        ["python3", "-c", look, *addresses],
        more={"outputs": [{"path": "/out/link", "url": places["link"]}]},
    )
    found = ended(driver, node, kept)
    assert found["state"] == "COMPLETE", found["logs"]
    assert executor_of(found)["stdout"] == "False False []\n" and "BEGIN" not in json.dumps(found)
    assert "links or pipes that are no file of this task were removed" in executor_of(found)["stderr"]
    stolen = ended(
        driver,
        node,
        send(
            driver,
            node,
            ["python3", "-c", look, *addresses],
            more={"outputs": [{"path": "/out/key", "url": places["key"]}]},
        ),
    )
    assert stolen["state"] == "SYSTEM_ERROR", "there is no such file"
    assert "BEGIN" not in json.dumps(stolen)


def test_an_image_that_cannot_be_had_fails_the_task_with_that_reason(driver: Driver, node: FunnelGateway) -> None:
    found = ended(driver, node, send(driver, node, ["true"], image="Not An Image"))
    assert (
        found["state"] == "EXECUTOR_ERROR"
        and executor_of(found)["exit_code"] == 125
        and "InvalidImageName" in executor_of(found)["stderr"]
    )


def test_a_command_that_takes_more_memory_than_asked_for_is_killed_and_that_is_said(
    driver: Driver, node: FunnelGateway
) -> None:
    found = ended(driver, node, send(driver, node, ["python3", "-c", "x = bytearray(400_000_000)"]))
    assert (
        found["state"] == "EXECUTOR_ERROR"
        and executor_of(found)["exit_code"] == 137
        and "more memory than the task asked for" in executor_of(found)["stderr"]
    )


def test_a_pod_that_is_taken_away_is_the_platforms_fault_and_a_cancelled_one_is_gone(
    driver: Driver, node: FunnelGateway
) -> None:
    taken, cancelled = (send(driver, node, ["sleep", "600"]) for _ in range(2))
    for number in (taken, cancelled):
        until(
            "it runs",
            lambda number=number: (
                "true"
                in node.cluster.kubectl(
                    "get",
                    f"pod/{number}-0",
                    "-n",
                    node.tasks,
                    "-o",
                    "jsonpath={.status.containerStatuses[0].started}",
                    check=False,
                )
            ),
            120,
            every=1,
            why=lambda: pods(node),
        )
    node.cluster.kubectl("delete", f"pod/{taken}-0", "-n", node.tasks, "--wait=false")
    driver.tes(node.name, "POST", f"/tasks/{cancelled}:cancel").raise_for_status()
    assert ended(driver, node, taken)["state"] == "SYSTEM_ERROR"
    assert ended(driver, node, cancelled)["state"] == "CANCELED"
    until(
        "no executor is left",
        lambda: not names(node, "pods", "-n", node.tasks, "-l", "app=funnel-executor"),
        90,
        every=1,
        why=lambda: pods(node),
    )


def test_what_funnel_made_for_its_tasks_goes_with_them(node: FunnelGateway) -> None:
    """Claims and workers a minute after they end, the volumes that nothing uses at once: Funnel itself deletes no
    volume.
    """
    until(
        "claims are gone",
        lambda: not names(node, "pvc,jobs", "-n", node.tasks),
        240,
        every=2,
        why=lambda: "\n".join(names(node, "pvc,jobs", "-n", node.tasks)),
    )
    until("no volume is left", lambda: not names(node, "pv", "-l", "app=funnel"), 120, every=2)
