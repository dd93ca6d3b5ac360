"""The whole pod in the process host's real sandbox: no network but two sockets, an empty environment, and yet a
workflow that runs and can be stopped.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gdi.contracts.workflow_files import digest_of
from gdi.runner.sandbox import why_not
from tests.support.process_host import host_config
from tests.support.snakemake_node import Node
from tests.support.tes_kit import chosen_sandbox

pytestmark = [pytest.mark.long, pytest.mark.skipif(why_not() is not None, reason=f"no sandboxes here: {why_not()}")]
ROOT = Path(__file__).parents[3]


class Host:
    """The host daemon with one workflow, in front of `node`."""

    def __init__(self, folder: Path, node: Node) -> None:
        self.folder, self.node = folder, node
        shutil.copytree(ROOT / "workflows" / "allele-frequency", folder / "workflows" / "allele-frequency")
        port = int(node.url.rpartition(":")[2])
        config = host_config(folder, port, {node.url: port})
        command = [sys.executable, "-m", "gdi.runner.host", "--config", str(config)]
        self.process = subprocess.Popen(
            command, stdout=(folder / "host.log").open("wb"), stderr=subprocess.STDOUT, env=chosen_sandbox()
        )
        self.http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(folder / "host.sock")), base_url="http://host", timeout=60
        )
        node.wait(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "host.log").read_text()
        try:
            return self.http.get("/livez").is_success
        except httpx.HTTPError:
            return False

    def run(self, name: str, **parameters: Any) -> None:
        body = {
            **{
                "run": self.node.run,
                "attempt": 1,
                "node": "node-a",
                "workflow": "allele-frequency",
                "parameters": parameters,
                "datasets": ["DS1"],
            },
            **{
                "digest": digest_of(self.folder / "workflows" / "allele-frequency"),
                "gateway_url": self.node.url,
                "audience": self.node.url,
            },
        }
        for answer in (self.http.put(f"/pods/{name}", json=body), self.http.post(f"/pods/{name}/start")):
            assert answer.is_success, answer.text

    def ended(self, name: str) -> dict[str, Any]:
        self.node.wait(lambda: self.http.get(f"/pods/{name}").json()["state"] in ("exited", "lost"), 300)
        return dict(self.http.get(f"/pods/{name}").json())

    def said(self) -> str:
        return "\n".join(p.read_text(errors="replace") for p in self.folder.glob("state/**/*log*") if p.is_file())

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Node(tmp_path / "node") as node:
        node.identity = ""
        (node.archive / "DS1").mkdir()
        shutil.copyfile(
            ROOT / "tests" / "fixtures" / "vcf" / "genotypes.vcf", node.archive / "DS1" / "cohort.vcf.gz.c4gh"
        )
        host = Host(tmp_path, node)
        yield host
        host.close()


def test_the_workflow_runs_in_the_sandbox_and_is_cancelled_there(host: Host) -> None:
    host.run("pod-1", regions=2)
    end = host.ended("pod-1")
    assert (end["state"], end["exit_code"]) == ("exited", 0), host.said()
    assert (host.node.workspace / "release" / "allele_counts.json").exists()
    (host.node.workspace / "release" / "allele_counts.json").unlink()
    host.run("pod-2", regions=2, slow_seconds=300)
    host.node.wait(lambda: len(host.node.live()) == 2)
    assert host.http.post("/pods/pod-2/stop", json={"mode": "cancel", "grace": 60}).is_success
    assert host.ended("pod-2")["exit_code"] == 1 and not host.node.live()
