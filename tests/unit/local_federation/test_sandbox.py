"""The sandbox of people who write a portal: what docs/portal-api.md promises is what a local federation has."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from gdi.kit.secret_files import Secrets
from gdi.local_federation.aai.config import load
from gdi.local_federation.layout import Layout
from gdi.local_federation.parts import core, portal
from gdi.local_federation.ports import Ports
from token_broker.enrolment import parse

DOCUMENT = Path(__file__).parents[3] / "docs" / "portal-api.md"


def test_the_sandbox_client_is_public_enrolled_and_may_call(tmp_path: Path) -> None:
    layout, secrets = Layout.make(tmp_path, 2, Ports()), Secrets(tmp_path / "secrets")
    spec = core.aai(layout, secrets)
    client = next(c for c in load(Path(spec.argv[-1])).clients if c.id == core.SANDBOX)
    assert client.secret_file is None and not client.introspect, "public, and it may look into no token"
    assert set(client.grants) == {"authorization_code", "refresh_token"}
    (tmp_path / "host").mkdir(exist_ok=True)
    (layout.folder("host") / "jwks.json").write_text(json.dumps({"keys": []}))
    enrolled = parse(core.enrolment(layout, secrets))
    assert core.SANDBOX in enrolled.portal_clients
    assert [c.members for c in enrolled.committees] == [[core.USERS["bob"]]]
    env = portal.service(layout, secrets, tmp_path).env
    assert tuple(yaml.safe_load(env["GDI_PORTAL_CORS_ORIGINS"])) == core.SANDBOX_ORIGINS
    text = DOCUMENT.read_text().partition("## A sandbox")[2].partition("## ")[0]
    assert core.SANDBOX in text and all(origin.rpartition(":")[2] in text for origin in core.SANDBOX_ORIGINS)
