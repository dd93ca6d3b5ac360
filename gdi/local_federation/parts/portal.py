"""The portal: the API for people and portals, and WES, as a process of its own beside the broker."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gdi.kit.secret_files import Secrets
from gdi.local_federation.layout import Layout
from gdi.local_federation.parts import airflow, core
from gdi.local_federation.supervisor import ServiceSpec, http_ok

ACCOUNT = "portal"  # of Airflow


def service(layout: Layout, secrets: Secrets, workflows: Path) -> ServiceSpec:
    env = {
        "HOST": "127.0.0.1",
        "PORT": str(layout.ports["portal"]),
        "PUBLIC_URL": layout.url("portal"),
        "BROKER_URL": layout.url("broker"),
        "AIRFLOW_URL": layout.url("airflow"),
        "AIRFLOW_PUBLIC_URL": layout.url("airflow"),
        "AIRFLOW_USER": ACCOUNT,
        "AIRFLOW_PASSWORD_FILE": str(secrets.path(airflow.password_name(ACCOUNT), size=9)),
        "DATABASE_URL": f"sqlite+aiosqlite:///{layout.folder('portal') / 'portal.db'}",
        "WORKFLOWS": str(workflows),
        "OIDC_ISSUER": layout.issuer,
        "OIDC_CLIENT_ID": core.PAGES,
        "DEVICE_CLIENT_ID": core.TERMINAL,
        "CORS_ORIGINS": json.dumps(core.SANDBOX_ORIGINS),
        "OIDC_CLIENT_SECRET_FILE": str(secrets.path("client-portal-pages")),
    }
    return ServiceSpec(
        "portal",
        [sys.executable, "-m", "gdi.portal.main"],
        http_ok(layout.url("portal") + "/readyz"),
        env={f"GDI_PORTAL_{k}": v for k, v in env.items()},
        needs=("broker",),
    )
