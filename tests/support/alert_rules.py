"""Alerts and dashboards of the charts, as Prometheus and Grafana read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


CHARTS = ("gdi", "gdi-node")


def rules(chart: str) -> list[dict[str, Any]]:
    document = yaml.safe_load((ROOT / "charts" / chart / "files" / "alerts.yaml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def dashboard(chart: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "charts" / chart / "files" / "dashboard.json").read_text())
    return found


def queries(chart: str) -> list[str]:
    return [target["expr"] for panel in dashboard(chart)["panels"] for target in panel["targets"]]
