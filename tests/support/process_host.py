"""The process host's configuration, as tests write it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def host_config(folder: Path, broker: int, gateways: Mapping[str, int], **more: Any) -> Path:
    """`broker`, `gateways`: ports of the loopback, by the gateways' URLs. What is relative lies in `folder`."""

    def at(port: int) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": port}

    settings = {
        "socket": "host.sock",
        "state_dir": "state",
        "workflows": "workflows",
        "issuer": "https://cluster.test",
        "key_file": "key.pem",
        "jwks_file": "jwks.json",
        "airflow_token_file": "identity/airflow-token",
        "broker": at(broker),
        "gateways": {url: at(port) for url, port in gateways.items()},
        **more,
    }
    file = folder / "host.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file
