"""The centre: LS AAI with REMS (stand-in), OpenBao, the token broker, and the host that runs Snakemake pods."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic_core import to_jsonable_python

from gdi.kit.jose import SigningKey
from gdi.kit.secret_files import Secrets, write_private
from gdi.local_federation.layout import Layout
from gdi.local_federation.supervisor import ServiceSpec, http_ok
from gdi.runner.sandbox import Maker

PROJECT = Path(__file__).resolve().parents[3]
USERS = {"alice": "alice@lifescience-ri.eu", "bob": "bob@lifescience-ri.eu"}
PORTAL, BROKER = "user-portal", "token-broker"
PAGES, TERMINAL = "portal-pages", "gdi-client"  # where people sign in: the portal's pages, and the command line
SANDBOX = "portal-sandbox"  # for people who write a portal: public, with PKCE, for pages of their own machine
SANDBOX_ORIGINS = ("http://localhost:3000", "http://localhost:5173", "http://localhost:8000")
PORTAL_REDIRECT = "http://127.0.0.1/portal/callback"
WORKLOAD_ISSUER = "https://process-host.local"
AIRFLOW_ACCOUNT, SNAKEMAKE_ACCOUNT = "system:serviceaccount:gdi:airflow", "system:serviceaccount:gdi:snakemake"


def node_key(secrets: Secrets, node: str) -> Path:
    """The node's ES256 key in PEM: signs its assertions to the broker and its releases."""
    file = secrets.folder / f"{node}-key.pem"
    if not file.exists():
        write_private(file, SigningKey.generate().pem())
    return file


def tes_client_id(node: str) -> str:
    return f"tes-{node}"


def gateway_client_id(node: str) -> str:
    """The node's gateway as a client of LS AAI: its reviewers sign in there."""
    return f"gateway-{node}"


def aai(layout: Layout, secrets: Secrets, *, record: Path | None = None) -> ServiceSpec:
    """`record`: for leak tests only, where the stand-in writes down every token it issues."""
    home = layout.folder("aai")
    clients: list[dict[str, Any]] = [
        {
            "id": PORTAL,
            "secret_file": str(secrets.path("client-user-portal")),
            "redirect_uris": [PORTAL_REDIRECT],
            "grants": ["authorization_code", "refresh_token"],
        },
        {
            "id": PAGES,
            "secret_file": str(secrets.path("client-portal-pages")),
            "redirect_uris": [layout.url("portal") + "/signed-in"],
            "grants": ["authorization_code", "refresh_token"],
        },
        {"id": TERMINAL, "grants": ["device_code", "refresh_token"]},
        {
            "id": SANDBOX,
            "redirect_uris": [f"{origin}/callback" for origin in SANDBOX_ORIGINS],
            "grants": ["authorization_code", "refresh_token"],
        },
        {
            "id": BROKER,
            "secret_file": str(secrets.path("client-token-broker")),
            "redirect_uris": [layout.url("broker") + "/connect/callback"],
            "grants": ["authorization_code", "refresh_token", "token_exchange"],
            "introspect": True,
        },
    ]
    for node in layout.nodes:
        reviewers = {"redirect_uris": [layout.gateway_url(node) + "/review/callback"], "grants": ["authorization_code"]}
        clients.append(
            {"id": gateway_client_id(node), "secret_file": str(secrets.path(f"client-gateway-{node}")), **reviewers}
        )
        clients.append(
            {
                "id": tes_client_id(node),
                "secret_file": str(secrets.path(f"client-tes-{node}")),
                "grants": [],
                "introspect": True,
            }
        )
    config: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": layout.ports["aai"],
        "admin_key_file": str(secrets.path("aai-admin-key")),
        "rems_api_key_file": str(secrets.path("rems-api-key")),
        "lifetimes": {"access": layout.access_lifetime, "refresh": layout.refresh_lifetime},
        "clients": clients,
        "users": [
            {"name": name, "sub": sub, "password_file": str(secrets.path(f"user-{name}", size=9))}
            for name, sub in USERS.items()
        ],
        "catalogue": [{"dataset": dataset} for node in layout.nodes for dataset in layout.datasets(node)],
        "handlers": ["bob"],
        "entitlements": [
            {"user": USERS["alice"], "dataset": dataset} for node in layout.nodes for dataset in layout.datasets(node)
        ],
    }
    if record is not None:
        config["record_issued"] = str(record)
    file = write_private(home / "config.yaml", yaml.safe_dump(config))
    return ServiceSpec(
        "aai",
        [sys.executable, "-m", "gdi.local_federation.aai", "--config", str(file)],
        http_ok(layout.issuer + "/.well-known/openid-configuration"),
    )


def enrolment(layout: Layout, secrets: Secrets) -> Path:
    """What the broker's operator enrolled: nodes with key and datasets, the portal, the visa issuer, the cluster."""
    rems = layout.url("aai") + "/rems/"
    nodes = [
        {
            "id": node,
            "gateway_url": layout.gateway_url(node),
            "public_key": SigningKey.from_pem(node_key(secrets, node).read_bytes()).jwk(),
            "datasets": layout.datasets(node),
            "sda_audience": layout.url(f"{node}/sda"),
            "tes_audience": layout.url(f"{node}/tes"),
            "placement": layout.placement(node),
            "apply_url": rems + "apply-for?resource={dataset}",
        }
        for node in layout.nodes
    ]
    document = {
        "nodes": nodes,
        "portals": [
            {"client_id": PORTAL, "airflow_users": ["portal"]},
            {"client_id": PAGES},
            {"client_id": TERMINAL},
            {"client_id": SANDBOX},
        ],
        "believe_airflow_users": "Airflow and broker are one person's, on one machine",
        "visa_issuers": [{"iss": rems, "jku": rems + "api/jwk"}],
        "workload_issuers": [
            {
                "issuer": WORKLOAD_ISSUER,
                "jwks_file": str(layout.folder("host") / "jwks.json"),
                "audience": "token-broker",
                "airflow": [AIRFLOW_ACCOUNT],
                "snakemake": [SNAKEMAKE_ACCOUNT],
            }
        ],
        "auditors": [],
        "committees": [
            {
                "name": "dac",
                "title": "Access committee of the demo",
                "members": [USERS["bob"]],
                "datasets": [dataset for node in layout.nodes for dataset in layout.datasets(node)],
            }
        ],
    }
    file = layout.folder("broker") / "enrolment.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return file


def broker(layout: Layout, secrets: Secrets, *, role_id: Path, secret_id: Path) -> ServiceSpec:
    env = {
        "HOST": "127.0.0.1",
        "PORT": str(layout.ports["broker"]),
        "PUBLIC_URL": layout.url("broker"),
        "DATABASE_URL": f"sqlite+aiosqlite:///{layout.folder('broker') / 'broker.db'}",
        "PORTAL_URL": layout.url("portal"),
        "VAULT_ADDR": layout.url("openbao"),
        "VAULT_ROLE_ID_FILE": str(role_id),
        "VAULT_SECRET_ID_FILE": str(secret_id),
        "OIDC_ISSUER": layout.issuer,
        "CLIENT_ID": BROKER,
        "CLIENT_SECRET_FILE": str(secrets.path("client-token-broker")),
        "ENROLMENT_FILE": str(enrolment(layout, secrets)),
        "REFRESH_TOKEN_LIFETIME": str(layout.refresh_lifetime),
        "RESULT_STORE": str(layout.result_store),
    }
    return ServiceSpec(
        "broker",
        [sys.executable, "-m", "token_broker.main"],
        http_ok(layout.url("broker") + "/readyz"),
        env={f"TOKEN_BROKER_{k}": v for k, v in env.items()},
        needs=("openbao", "aai", "host"),
    )


def host_socket(layout: Layout) -> Path:
    return layout.folder("host") / "host.sock"


def airflow_token(layout: Layout) -> Path:
    """Airflow's identity token, rewritten by the host before it expires."""
    return layout.folder("host") / "airflow-token"


def host(layout: Layout, secrets: Secrets, workflows: Path, maker: Maker) -> ServiceSpec:
    """The process host; it makes its key and the JWKS that the broker's enrolment names."""
    home = layout.folder("host")
    config = {
        "socket": str(host_socket(layout)),
        "state_dir": str(layout.folder("host", "pods")),
        "workflows": str(workflows),
        "issuer": WORKLOAD_ISSUER,
        "key_file": str(secrets.folder / "host-key.pem"),
        "jwks_file": str(home / "jwks.json"),
        "airflow_token_file": str(airflow_token(layout)),
        "broker": {"host": "127.0.0.1", "port": layout.ports["broker"]},
        "sandbox": to_jsonable_python(maker),
        "gateways": {
            layout.gateway_url(n): {"host": "127.0.0.1", "port": urlsplit(layout.gateway_url(n)).port}
            for n in layout.nodes
        },
    }
    file = home / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    return ServiceSpec(
        "host",
        [sys.executable, "-m", "gdi.runner.host", "--config", str(file)],
        lambda: host_socket(layout).is_socket() and (home / "jwks.json").exists() and airflow_token(layout).exists(),
    )
