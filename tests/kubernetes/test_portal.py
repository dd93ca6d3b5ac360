"""The portal as charts/gdi installs it beside the broker: two replicas of the image on PostgreSQL, reached by whom the
values name and by nobody else.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import yaml

from tests.kubernetes import images
from tests.kubernetes.cluster import ROOT, Cluster, until
from tests.kubernetes.coordinator import NAMESPACE, OUTSIDE, Coordinator, coordinator
from tests.kubernetes.door import Door
from tests.kubernetes.pods import pod, reaches

from tests.support.broker_kit import DATASETS, PORTS  # isort: skip

WORKFLOW = "allele-frequency"
FRIEND, STRANGER = "friend", "stranger"


@dataclass
class Portal:
    """`url`: of its Service, for who stands outside."""

    world: Coordinator
    url: str

    def get(self, path: str, token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.get(self.url + path, headers=headers, trust_env=False, timeout=60)


@pytest.fixture(scope="module")
def portal(cluster: Cluster, broker_image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    images.built("portal")
    cluster.load(images.archive_of("portal"))
    folder = tmp_path_factory.mktemp("portal")
    with coordinator(cluster, folder) as world, ExitStack() as stack:
        url = f"http://127.0.0.1:{PORTS.take()}"
        values = _values(world, url)
        (folder / "portal.yaml").write_text(yaml.safe_dump(values))
        cluster.apply(_beside(world))
        world.upgrade("-f", str(folder / "portal.yaml"))
        cluster.rollout("deployment/gdi-portal", NAMESPACE, 120)
        address = str(cluster.get("service", "gdi-portal", NAMESPACE)["spec"]["clusterIP"])
        stack.enter_context(Door(cluster, address, 8080, int(url.rpartition(":")[2])))
        yield Portal(world, url)


def _values(world: Coordinator, url: str) -> dict[str, Any]:
    """Those of the portal. Nobody is at Airflow's address: what needs it says so."""
    node = world.cluster.nodes[0].address
    repository, tag = images.name_of("portal").rsplit(":", 1)
    base = yaml.safe_load(world.centre.values_file.read_text())["broker"]["network"]
    return {
        "broker": {
            "network": {**base, "from": [{"cidr": f"{node}/32"}, {"namespace": OUTSIDE, "podLabels": {"app": FRIEND}}]}
        },
        "portal": {
            "enabled": True,
            "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
            "publicUrl": url,
            "airflow": {"url": f"http://airflow-api-server.{NAMESPACE}.svc:8080"},
            "database": {
                "url": f"postgresql+asyncpg://gdi@postgres.{OUTSIDE}.svc/{world.postgres.database('portal')}",
                "passwordSecret": {"name": "gdi-broker-database"},
            },
            "workflowsVolume": {"configMap": {"name": "workflows", "items": _items()}},
            "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        },
    }


def _files() -> list[str]:
    folder = ROOT / "workflows" / WORKFLOW
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and "__" not in str(p))


def _items() -> list[dict[str, str]]:
    """A ConfigMap's keys have no folders."""
    return [{"key": f"file-{n}", "path": f"{WORKFLOW}/{name}"} for n, name in enumerate(_files())]


def _beside(world: Coordinator) -> list[dict[str, Any]]:
    """What an operator makes before: the catalogue, the account's password; and two pods of others."""
    place = {"namespace": NAMESPACE}
    content = [(ROOT / "workflows" / WORKFLOW / name).read_bytes() for name in _files()]
    data = {f"file-{n}": base64.b64encode(body).decode() for n, body in enumerate(content)}
    made: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "workflows", **place}, "binaryData": data},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "gdi-portal-airflow", **place},
            "stringData": {"password": "the-portals-password-in-airflow"},
        },
    ]
    for name in (FRIEND, STRANGER):
        one = pod(name, "import time; time.sleep(600)", OUTSIDE)
        one["metadata"]["labels"]["app"] = name
        made.append(one)
    return made


def test_both_replicas_serve_and_the_database_has_its_schema_once(portal: Portal) -> None:
    assert portal.get("/readyz").json() == {"status": "ok"}
    found = portal.world.cluster.get("deployment", "gdi-portal", NAMESPACE)["status"]
    assert found["readyReplicas"] == found["updatedReplicas"] == 2
    info = portal.get("/ga4gh/wes/v1/service-info").json()
    assert info["workflow_type_versions"] and info["supported_wes_versions"]


def test_a_user_sees_the_catalogue_and_what_the_broker_knows_and_nobody_else_does(portal: Portal) -> None:
    token = portal.world.sign_in("alice").access_token
    assert [w["name"] for w in portal.get("/v1/workflows", token).json()["workflows"]] == [WORKFLOW]
    listed = portal.get("/v1/datasets", token)
    assert listed.status_code == 200 and DATASETS["node-a"] in listed.text
    assert portal.get("/v1/grants", token).status_code == 200
    assert portal.get("/v1/datasets").status_code == 401
    assert portal.get("/v1/datasets", "x" * 40).status_code == 401


def test_who_is_not_named_reaches_no_portal_and_the_portal_reaches_no_vault(portal: Portal) -> None:
    cluster = portal.world.cluster
    for name in (FRIEND, STRANGER):
        cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "-n", OUTSIDE, "--timeout=90s", timeout=100)
    door = ("gdi-portal.gdi.svc", 8080)
    until("who is named reaches it", lambda: reaches(cluster, FRIEND, OUTSIDE, *door))
    assert not reaches(cluster, STRANGER, OUTSIDE, *door)
    mine = "deploy/gdi-portal"
    until("it reaches the broker", lambda: reaches(cluster, mine, NAMESPACE, "gdi-broker.gdi.svc", 8080))
    for host, port in ((f"vault.{OUTSIDE}.svc", 8200), ("kubernetes.default.svc", 443)):
        assert not reaches(cluster, mine, NAMESPACE, host, port), host


def test_a_pod_of_the_portal_has_no_account_of_the_cluster_and_no_secret_in_its_environment(portal: Portal) -> None:
    cluster = portal.world.cluster
    said = cluster.kubectl(
        "exec",
        "-n",
        NAMESPACE,
        "deploy/gdi-portal",
        "--",
        "python3",
        "-c",
        "import os; print(dict(os.environ)); print(os.path.exists('/var/run/secrets/kubernetes.io'), os.getuid())",
    )
    assert said.splitlines()[-1] == "False 10001"
    assert portal.world.postgres.password not in said and "the-portals-password" not in said
