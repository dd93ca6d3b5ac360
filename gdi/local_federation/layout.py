"""Where a local federation keeps what: the folders and the ports, written to `federation.json` so that it can be
started again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gdi.local_federation.ports import Ports

CENTRAL = (
    "portal",
    "aai",
    "broker",
    "airflow",
    "airflow_worker_log",
    "airflow_trigger_log",
    "openbao",
    "openbao_cluster",
)
S3_PARTS = ("grpc", "master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc")
PER_NODE = ("sda", "tes", "gateway", "gateway_tap", "broker_tap", "s3", *(f"s3_{part}" for part in S3_PARTS))


@dataclass
class Layout:
    """`nodes` are node ids; `ports` is by `part` or `node/part`; `lifetimes` in seconds."""

    work: Path
    nodes: list[str]
    access_lifetime: int = 600
    refresh_lifetime: int = 3600
    floor: int = 5
    logs_policy: str = "open"
    extra_datasets: dict[str, str] = field(default_factory=dict)  # dataset → node, besides each node's own
    own_datasets: dict[str, str] = field(default_factory=dict)  # node → its dataset, where it has another id
    tapped: bool = False
    agents: list[str] = field(default_factory=list)  # nodes that start Snakemake themselves
    gateway_names: dict[str, str] = field(
        default_factory=dict
    )  # node → the name by which others find its gateway, where not on the loopback
    ports: dict[str, int] = field(default_factory=dict)

    @classmethod
    def make(
        cls, work: Path, nodes: int, ports: Ports, *, access_lifetime: int = 600, refresh_lifetime: int = 3600
    ) -> Layout:
        """A new layout for so many nodes; takes its ports."""
        layout = cls(
            work,
            [f"node-{chr(ord('a') + i)}" if i < 26 else f"node-{i + 1}" for i in range(nodes)],
            access_lifetime,
            refresh_lifetime,
        )
        for part in CENTRAL:
            layout.ports[part] = ports.take()
        for node in layout.nodes:
            for part in PER_NODE:
                layout.ports[f"{node}/{part}"] = ports.take()
        return layout

    @classmethod
    def load(cls, work: Path) -> Layout:
        """The layout of a federation that was started here before. FileNotFoundError where there was none."""
        raw = json.loads((work / "federation.json").read_text())
        return cls(work=work, **raw)

    def save(self) -> None:
        raw = asdict(self)
        del raw["work"]
        (self.work / "federation.json").write_text(json.dumps(raw, indent=1))

    def folder(self, *parts: str) -> Path:
        path = self.work.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def url(self, part: str) -> str:
        return f"http://127.0.0.1:{self.ports[part]}"

    @property
    def results(self) -> Path:
        return self.folder("results")

    @property
    def logs(self) -> Path:
        return self.folder("logs")

    @property
    def issuer(self) -> str:
        return self.url("aai") + "/oidc"

    def dataset(self, node: str) -> str:
        """The one dataset that a node of the demo holds, in the style of an EGA accession unless it has another id."""
        return self.own_datasets.get(node) or f"EGAD5000000{self.nodes.index(node) + 1:04d}"

    def datasets(self, node: str) -> list[str]:
        """All datasets of a node, its own first."""
        return [self.dataset(node), *sorted(d for d, n in self.extra_datasets.items() if n == node)]

    def gateway_url(self, node: str) -> str:
        """Where the centre finds a node's gateway: through the tap that records the border, where there is one."""
        return (
            self.url(f"{node}/gateway_tap")
            if self.tapped
            else f"http://{self.gateway_names.get(node, '127.0.0.1')}:{self.ports[f'{node}/gateway']}"
        )

    def broker_url(self, node: str) -> str:
        """Where a node finds the broker."""
        return self.url(f"{node}/broker_tap" if self.tapped else "broker")

    def placement(self, node: str) -> str:
        """Who starts the node's Snakemake: `node` (its own agent) or `coordinator`."""
        return "node" if node in self.agents else "coordinator"

    def launcher_socket(self, node: str) -> Path:
        """The control socket of a node's own process host."""
        return self.folder("nodes", node, "host") / "host.sock"

    @property
    def result_store(self) -> Path:
        """Where the broker keeps what nodes push, and Airflow finds it."""
        return self.folder("store")

    def internal_socket(self, node: str) -> Path:
        return self.folder("nodes", node, "gateway") / "internal.sock"
