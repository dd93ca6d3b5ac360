"""A node: its archive (SDA stand-in), its TES (stand-in, or real Funnel), and its gateway."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import yaml
from crypt4gh.keys.c4gh import generate
from pydantic_core import to_jsonable_python

from gdi.contracts.ids import dataset_name
from gdi.kit.secret_files import Secrets, write_private
from gdi.kit.tls import authorities
from gdi.local_federation.approvals import approve, approved
from gdi.local_federation.layout import Layout
from gdi.local_federation.parts import core, s3
from gdi.local_federation.phenotypes import BINS, LEVELS
from gdi.local_federation.sda.archive import folder_of
from gdi.local_federation.supervisor import ServiceSpec, http_ok, listening
from gdi.local_federation.tes import funnel
from gdi.releases.registry import kinds
from gdi.runner.sandbox import Maker
from gdi.runner.sandbox.docker import DriverImage

logging.getLogger("crypt4gh").setLevel(logging.CRITICAL)  # at DEBUG it logs keys
TES_USER = "gateway"
INDEX = "cohort.vcf.gz.tbi.c4gh"
TASK_IMAGE = "gdi-task:1"
TASK_PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"


def sda(layout: Layout, node: str) -> ServiceSpec:
    home = layout.folder("nodes", node, "sda")
    rems = layout.url("aai") + "/rems/"
    config = {
        "host": "127.0.0.1",
        "port": layout.ports[f"{node}/sda"],
        "archive": str(home / "archive"),
        "issuer": layout.issuer,
        "audience": layout.url(f"{node}/sda"),
        "visa_issuers": [{"iss": rems, "jku": rems + "api/jwk"}],
    }
    file = home / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    return ServiceSpec(
        f"{node}-sda",
        [sys.executable, "-m", "gdi.local_federation.sda", "--config", str(file)],
        http_ok(layout.url(f"{node}/sda") + "/health"),
    )


def tes_keys(layout: Layout, secrets: Secrets, node: str) -> tuple[Path, Path]:
    """The TES's Crypt4GH key pair (secret, public), made once by the node's operator; the gateway knows the public
    half.
    """
    secret, public = secrets.folder / f"{node}-tes-c4gh.sec", layout.folder("nodes", node, "tes") / "c4gh.pub"
    if not secret.exists():
        with contextlib.redirect_stderr(
            io.StringIO()
        ):  # it warns that there is no passphrase; the file's mode protects the key
            generate(str(secret), str(public), passphrase=b"", comment=None)
    return secret, public


def policy_file(layout: Layout, node: str) -> Path:
    return layout.folder("nodes", node, "gateway") / "policy.yaml"


def policy(layout: Layout, node: str, workflows: Path | None = None) -> Path:
    """The demo's node policy. Its data is open (1000 Genomes), so logs may be read. Where the
    nodes start Snakemake themselves, their operators read the catalogue: each workflow is approved as it lies there.
    """
    rems = layout.url("aai") + "/rems/"
    document: dict[str, Any] = {
        "images": [TASK_IMAGE],
        "own_image": TASK_IMAGE,
        "max_cpu_cores": 2,
        "max_ram_gb": 4,
        "max_disk_gb": 10,
        "workflows": approved(workflows) if workflows is not None and node in layout.agents else [],
        "placement": layout.placement(node),
        "accept_unattested": "coordinator and nodes are one person's, on one machine",
        "visa_issuers": [{"iss": rems, "jku": rems + "api/jwk"}],
        "error_lines": True,
        "floor": layout.floor,
        "logs": layout.logs_policy,
        "error_workflows": ["allele-frequency", "cohort-counts"],
        "releases": {"kinds": sorted(kinds())},
        "review": False,
        "reviewers": [core.USERS["bob"]],
    }
    file = policy_file(layout, node)
    if file.exists():  # what was written since stays; the catalogue's versions of now are approved
        approve(file, document["workflows"])
    else:
        file.write_text(yaml.safe_dump(document, sort_keys=False))
    for dataset in layout.datasets(node):
        described = file.parent / "datasets" / f"{dataset_name(dataset)}.yaml"
        described.parent.mkdir(exist_ok=True)
        if not described.exists():
            archive = layout.folder("nodes", node, "sda") / "archive" / folder_of(dataset)
            indexed = (archive / INDEX).exists()
            described.write_text(yaml.safe_dump(descriptor(dataset, indexed=indexed), sort_keys=False))
    return file


DERIVED: dict[str, tuple[float, ...]] = {
    "missingness": (0, 0.02, 0.05, 0.1, 0.25, 0.5, 1),
    "heterozygosity": (0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 1),
    "inbreeding": (-100, -0.2, -0.1, -0.05, 0.05, 0.1, 0.2, 1),
    "titv": (0, 1, 1.5, 2, 2.5, 3, 5, 100),
    "score": (-8, -3, -2, -1, 0, 1, 2, 3, 8),
}
CLUSTERS = ("cluster-1", "cluster-2", "cluster-3", "unassigned")  # of the ancestry workflow's reference


def descriptor(dataset: str, *, indexed: bool = False) -> dict[str, object]:
    """What the demo's operator says of a dataset: a part of the 1000 Genomes' phase 1 (GRCh37)."""
    return {
        "dataset": dataset,
        "assembly": "GRCh37",
        "membership": "contract",
        "absent": "reference",
        "identifiers": "one-per-person",
        "disjoint": True,
        "files": [{"path": "cohort.vcf.gz.c4gh", "format": "vcf", **({"index": INDEX} if indexed else {})}],
        "samples": samples(),
        "derived": derived(),
        "kinds": sorted(kinds()),
    }


def samples() -> dict[str, object]:
    """The demo's sample table: simulated (`gdi.local_federation.phenotypes`)."""
    phenotypes: list[dict[str, object]] = [
        {"column": "country", "type": "category", "categories": list(LEVELS["country"])},
        {"column": "diabetes", "type": "boolean", "title": "Diabetes, simulated"},
        {"column": "ancestry", "type": "number", "minimum": -20, "maximum": 20, "title": "First principal component"},
    ]
    for column, bins in BINS.items():
        bounds = {"minimum": bins[0], "maximum": bins[-1], "bins": list(bins)}
        phenotypes.append({"column": column, "type": "number", **bounds})
    table: dict[str, object] = {"file": "samples.tsv.c4gh", "format": "tsv", "person": "person", "sample": "person"}
    return table | {"sex": {"column": "sex"}, "phenotypes": phenotypes}


def derived() -> list[dict[str, object]]:
    """What the catalogue's workflows compute of genotypes, with the bins in which it may be shown: their defaults."""
    return [
        {"column": "sex_check", "type": "category", "categories": ["agrees", "differs", "unclear"]},
        {"column": "ancestry_cluster", "type": "category", "categories": list(CLUSTERS)},
        *(
            {"column": name, "type": "number", "minimum": bins[0], "maximum": bins[-1], "bins": list(bins)}
            | ({"score": True} if name == "score" else {})
            for name, bins in DERIVED.items()
        ),
    ]


def gateway(layout: Layout, secrets: Secrets, node: str, workflows: Path, *, flavour: str = "ga4gh") -> ServiceSpec:
    return ServiceSpec(
        f"{node}-gateway",
        [sys.executable, "-m", "node_gateway.main"],
        http_ok(layout.url(f"{node}/gateway") + "/readyz"),
        env=gateway_environment(layout, secrets, node, workflows, flavour),
        needs=("broker", f"{node}-s3", f"{node}-tes", f"{node}-sda"),
    )


def agent(layout: Layout, secrets: Secrets, node: str, workflows: Path, maker: Maker) -> list[ServiceSpec]:
    """The node's own agent, and the host that runs its pods. Both listen for nobody outside the node."""
    home = layout.folder("nodes", node, "host")
    here = {"host": "127.0.0.1", "port": layout.ports[f"{node}/gateway"]}
    config = {
        "socket": str(layout.launcher_socket(node)),
        "state_dir": str(layout.folder("nodes", node, "host", "pods")),
        "workflows": str(layout.folder("nodes", node, "agent")),
        "issuer": launcher_issuer(node),
        "key_file": str(secrets.folder / f"{node}-host-key.pem"),
        "jwks_file": str(home / "jwks.json"),
        # to its pods the node's gateway is the broker too: it gives them tokens, and passes their events on
        "broker": here,
        "gateways": {layout.gateway_url(node): here},
        "sandbox": to_jsonable_python(maker),
    }
    file = home / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    host = ServiceSpec(
        f"{node}-host",
        [sys.executable, "-m", "gdi.runner.host", "--config", str(file)],
        lambda: layout.launcher_socket(node).is_socket() and (home / "jwks.json").exists(),
    )
    asking = ServiceSpec(
        f"{node}-agent",
        [sys.executable, "-m", "node_gateway.main", "agent"],
        lambda: True,
        env=gateway_environment(layout, secrets, node, workflows, "ga4gh"),
        needs=(f"{node}-gateway", f"{node}-host"),
    )
    return [host, asking]


def launcher_issuer(node: str) -> str:
    return f"https://process-host.{node}"


def gateway_environment(layout: Layout, secrets: Secrets, node: str, workflows: Path, flavour: str) -> dict[str, str]:
    """The settings of a node's gateway and agent."""
    home = layout.folder("nodes", node, "gateway")
    env = {
        "NODE_ID": node,
        # found by others than this machine only where a name says so
        "HOST": "0.0.0.0" if node in layout.gateway_names else "127.0.0.1",  # noqa: S104
        "PORT": str(layout.ports[f"{node}/gateway"]),
        "PUBLIC_URL": layout.gateway_url(node),
        "INTERNAL_SOCKET": str(layout.internal_socket(node)),
        "BROKER_URL": layout.broker_url(node),
        "BROKER_ISSUER": layout.url("broker"),
        "KEY_FILE": str(core.node_key(secrets, node)),
        "POLICY_FILE": str(policy(layout, node, workflows)),
        "LAUNCHER_SOCKET": str(layout.launcher_socket(node)),
        "LAUNCHER_ISSUER": launcher_issuer(node),
        "LAUNCHER_JWKS_FILE": str(layout.folder("nodes", node, "host") / "jwks.json"),
        "AGENT_FOLDER": str(layout.folder("nodes", node, "agent")),
        "DATABASE_URL": f"sqlite+aiosqlite:///{home / 'gateway.db'}",
        "TES_URL": layout.url(f"{node}/tes"),
        "TES_USER": TES_USER,
        "TES_PASSWORD_FILE": str(secrets.path(f"{node}-tes-password")),
        "TES_PUBLIC_KEY_FILE": str(tes_keys(layout, secrets, node)[1]),
        "TES_FLAVOUR": flavour,
        "SDA_URL": layout.url(f"{node}/sda"),
        "S3_ENDPOINT": layout.url(f"{node}/s3"),
        "S3_CREDENTIALS_FILE": str(s3.credentials_file(secrets, node, "gateway")),
        "WORKSPACE_BUCKET": s3.workspace_bucket(node),
        "RELEASE_BUCKET": s3.release_bucket(node),
        "OIDC_ISSUER": layout.issuer,
        "OIDC_CLIENT_ID": core.gateway_client_id(node),
        "OIDC_CLIENT_SECRET_FILE": str(secrets.path(f"client-gateway-{node}")),
    }
    return {f"NODE_GATEWAY_{k}": v for k, v in env.items()}


def taps(layout: Layout, node: str) -> list[ServiceSpec]:
    """Two recorders at the node's border: what the centre asks the gateway, and what the gateway asks the broker. For
    tests.
    """
    made = []
    for name, target in ((f"{node}/gateway_tap", f"{node}/gateway"), (f"{node}/broker_tap", "broker")):
        record = layout.folder("border") / name.replace("/", "-")
        argv = [
            sys.executable,
            "-m",
            "gdi.local_federation.tap",
            str(layout.ports[name]),
            str(layout.ports[target]),
            str(record),
        ]
        made.append(ServiceSpec(name.replace("/", "-"), argv, listening(layout.ports[name])))
    return made


def tes(
    layout: Layout,
    secrets: Secrets,
    node: str,
    *,
    folders: list[Path],
    slots: int,
    maker: Maker,
    program: Path | None = None,
    inside: str | None = None,
) -> ServiceSpec:
    """The node's TES: real Funnel where `program` is one, else the stand-in. `folders` are what the task image holds
    besides the host's /usr.

    `inside`: the URL of the gateway's internal listener, where that is not the socket of a gateway on this machine (for
    the stand-in).
    """
    if program is not None:
        return _funnel(layout, secrets, node, program, folders, slots)
    home = layout.folder("nodes", node, "tes")
    secret, public = tes_keys(layout, secrets, node)
    config = {
        "host": "127.0.0.1",
        "port": layout.ports[f"{node}/tes"],
        "state_dir": str(home / "state"),
        "slots": slots,
        "introspection": {
            "url": layout.issuer + "/introspect",
            "client_id": core.tes_client_id(node),
            "client_secret_file": str(secrets.path(f"client-tes-{node}")),
            "audience": layout.url(f"{node}/tes"),
        },
        "service_accounts": [{"user": TES_USER, "password_file": str(secrets.path(f"{node}-tes-password"))}],
        "archive": {
            "url": inside or _internal_url(layout, node),
            "secret_key_file": str(secret),
            "public_key_file": str(public),
        },
        "s3": {
            "endpoint": layout.url(f"{node}/s3"),
            "credentials_file": str(s3.credentials_file(secrets, node, "tes")),
        },
        "sandbox": to_jsonable_python(maker),
        "images": [{"match": TASK_IMAGE, "folders": [str(f) for f in folders], "path": TASK_PATH}],
    }
    file = write_private(home / "config.yaml", yaml.safe_dump(config))
    return ServiceSpec(
        f"{node}-tes",
        [sys.executable, "-m", "gdi.local_federation.tes", "--config", str(file)],
        http_ok(layout.url(f"{node}/tes") + "/ga4gh/tes/v1/service-info"),
        needs=("aai", f"{node}-s3"),
    )


def _funnel(layout: Layout, secrets: Secrets, node: str, program: Path, folders: list[Path], slots: int) -> ServiceSpec:
    """Funnel in a network namespace of its own; by the gateway's internal socket it gets data, by relayed ports it
    reaches LS AAI and the node's S3.
    """
    keys = json.loads(s3.credentials_file(secrets, node, "tes").read_text())
    url, password = layout.url(f"{node}/tes"), secrets.read(f"{node}-tes-password")
    settings = funnel.FunnelSettings(
        issuer=layout.issuer,
        client_id=core.tes_client_id(node),
        client_secret=secrets.read(f"client-tes-{node}"),
        audience=url,
        user=TES_USER,
        password=password,
        s3_endpoint=layout.url(f"{node}/s3"),
        s3_access=keys["access_key"],
        s3_secret=keys["secret_key"],
        sda_url=_internal_url(layout, node),
    )
    argv = funnel.prepare(
        layout.folder("nodes", node, "funnel"),
        program,
        settings,
        [DriverImage(TASK_IMAGE, folders, TASK_PATH)],
        listen_port=layout.ports[f"{node}/tes"],
        key_files=tes_keys(layout, secrets, node),
        reach=[layout.ports["aai"], layout.ports[f"{node}/s3"]],
        slots=slots,
    )
    return ServiceSpec(
        f"{node}-tes", argv, funnel_answers(url + "/ga4gh/tes/v1/service-info", password), needs=("aai", f"{node}-s3")
    )


def funnel_answers(url: str, password: str) -> Callable[[], bool]:
    """Funnel tells even its service-info to those it knows only."""

    def check() -> bool:
        try:
            return (
                httpx.get(url, auth=(TES_USER, password), timeout=2, trust_env=False, verify=authorities()).status_code
                == 200
            )
        except httpx.HTTPError:
            return False

    return check


def _internal_url(layout: Layout, node: str) -> str:
    return "http+unix://" + quote(str(layout.internal_socket(node)), safe="")
