"""Writes docs/node-settings.md from the classes that read the settings: a table, a sample environment file, a table and
a sample of the policy. `python packaging/settings_tables.py`; a test holds the document equal.
"""

from __future__ import annotations

import json
import textwrap
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from node_gateway.policy import Policy
from node_gateway.settings import Settings

DOCUMENT = Path(__file__).parents[1] / "docs" / "node-settings.md"
HEAD = """\
# A node's settings and policy
Made of the classes that read them (`python packaging/settings_tables.py`): what stands here is what the gateway takes.
Whatever is wrong is named at start, with its variable, and nothing starts. Without quotes, an empty default means: not
set.

## Environment: `NODE_GATEWAY_…`
"""
# Of what has no default, or is usually set: a node that keeps its state in SQLite and lets reviewers sign in.
SAMPLE = {
    "NODE_ID": "node-a",
    "PORT": "8443",
    "PUBLIC_URL": "https://gateway.node-a.example",
    "INTERNAL_SOCKET": "/run/node-gateway/internal.sock",
    "OPERATIONS_PORT": "9100",
    "BROKER_URL": "https://broker.gdi.example",
    "KEY_FILE": "/etc/node-gateway/node-key.pem",
    "POLICY_FILE": "/etc/node-gateway/policy.yaml",
    "DATABASE_URL": "sqlite+aiosqlite:////var/lib/node-gateway/gateway.db",
    "TES_URL": "http://127.0.0.1:8000",
    "TES_USER": "gateway",
    "TES_PASSWORD_FILE": "/etc/node-gateway/tes-password",
    "TES_PUBLIC_KEY_FILE": "/etc/node-gateway/tes.pub",
    "SDA_URL": "https://download.node-a.example",
    "S3_ENDPOINT": "https://s3.node-a.example",
    "S3_CREDENTIALS_FILE": "/etc/node-gateway/s3.json",
    "WORKSPACE_BUCKET": "gdi-workspace",
    "RELEASE_BUCKET": "gdi-releases",
    "OIDC_ISSUER": "https://login.aai.lifescience-ri.eu/oidc/",
    "OIDC_CLIENT_ID": "gateway-node-a",
    "OIDC_CLIENT_SECRET_FILE": "/etc/node-gateway/oidc-secret",
}
POLICY = """\
images: ["ghcr.io/example/gdi-task:*"]
workflows:
  - {name: allele-frequency, digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000"}
max_cpu_cores: 4
max_ram_gb: 16
floor: 10
releases: {kinds: [allele-counts]}
review: true
reviewers: [reviewer@lifescience-ri.eu]
committee: [committee-member@lifescience-ri.eu]
retention_days: 30
"""


def document() -> str:
    """The whole text, in lines of at most 120 columns but for the tables."""
    sample = "\n".join(f"NODE_GATEWAY_{name}={value}" for name, value in SAMPLE.items())
    parts = [
        HEAD + _table(Settings, upper=True),
        _wrapped(
            "A sample environment file (systemd's `EnvironmentFile`; the secrets' files have mode 0600). The sample is"
            " read by a test as it stands here."
        )
        + f"\n```\n{sample}\n```",
        "## The policy file\n"
        + _wrapped(
            "YAML, read again when it changes; a mistake leaves the last good policy in"
            " force, and `/readyz` names it. `node-gateway check POLICY` says in sentences what one allows."
        )
        + "\n\n"
        + _table(Policy, upper=False),
        f"A sample, read by a test too:\n```yaml\n{POLICY}```",
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _table(model: type[BaseModel], *, upper: bool) -> str:
    lines = ["| name | default | takes | what it is |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        shown = name.upper() if upper else name
        takes = _takes(field.annotation).replace("|", "\\|")
        lines.append(f"| `{shown}` | {_default(field)} | {takes} | {field.description or ''} |")
    return "\n".join(lines)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.default_factory() if field.default_factory else field.default  # type: ignore[call-arg]
    if value is PydanticUndefined or value is None:
        return ""
    return f"`{json.dumps(to_jsonable_python(value), ensure_ascii=False)}`"


def _takes(kind: Any) -> str:
    """A type in a word or two."""
    origin = get_origin(kind)
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in get_args(kind))
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_takes(one) for one in get_args(kind) if one is not type(None)))
    if origin in (list, dict):
        return "list" if origin is list else "mapping"
    if origin is not None:  # Annotated
        return _takes(get_args(kind)[0])
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "`true`, `false`"}
    names |= {"Path": "file"} | dict.fromkeys(("Veto", "ReleasePolicy"), "mapping")
    return names.get(kind.__name__, kind.__name__)


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 120, break_on_hyphens=False))


def sample_policy() -> Policy:
    return Policy.model_validate(yaml.safe_load(POLICY))


if __name__ == "__main__":
    DOCUMENT.write_text(document())
