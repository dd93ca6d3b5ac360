"""Alerts and dashboards ask for figures that the products have, and each alert says what to do."""

from __future__ import annotations

import re

import pytest

from node_gateway.metrics import Metrics as GatewayMetrics
from tests.support.alert_rules import CHARTS, ROOT, dashboard, queries, rules
from token_broker.metrics import Metrics as BrokerMetrics

FIGURE = re.compile(r"\b(?:token_broker|gdi_gateway)_[a-z_]+")
ENDS = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


@pytest.mark.parametrize("chart", CHARTS)
def test_alerts_and_dashboards_ask_for_figures_that_there_are(chart: str) -> None:
    made = {
        family.name + end
        for metrics in (GatewayMetrics(), BrokerMetrics())
        for family in metrics.registry.collect()
        for end in ENDS[family.type]
    }
    asked = {name for text in [*queries(chart), *(r["expr"] for r in rules(chart))] for name in FIGURE.findall(text)}
    assert asked and asked <= made, asked - made


def test_each_alert_has_its_paragraph_and_each_paragraph_its_alert() -> None:
    told = re.findall(r"^### (Gdi\w+)$", (ROOT / "docs" / "operate.md").read_text(), re.MULTILINE)
    every = [rule for chart in CHARTS for rule in rules(chart)]
    assert sorted(rule["alert"] for rule in every) == sorted(told)
    for rule in every:
        assert rule["annotations"]["runbook"] == f"docs/operate.md#{rule['alert'].lower()}", rule["alert"]


@pytest.mark.parametrize("chart", CHARTS)
def test_a_dashboards_panels_have_ids_and_titles_of_their_own(chart: str) -> None:
    panels = dashboard(chart)["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
