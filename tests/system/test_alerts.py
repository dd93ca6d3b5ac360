"""Alerts by Prometheus' own `promtool`: the rules are valid, each fires in its case and stays silent beside it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.alert_rules import CHARTS, ROOT, queries, rules
from tests.support.debian import program

pytestmark = pytest.mark.system
JOB = "a-service"
UP, DOWN = f'up{{job="{JOB}"}}', f'gdi_gateway_requests_total{{job="{JOB}",status="'
# An alert's case: series and their values minute by minute, and those of a machine that is well; after how long (min).
CASES: dict[str, tuple[dict[str, str], dict[str, str], int]] = {
    "GdiBrokerDown": ({UP: "0x20"}, {UP: "1x20"}, 10),
    "GdiBrokerErrors": (
        {
            'token_broker_request_seconds_count{status="200"}': "0+97x20",
            'token_broker_request_seconds_count{status="503"}': "0+3x20",
        },
        {
            'token_broker_request_seconds_count{status="200"}': "0+99x20",
            'token_broker_request_seconds_count{status="404"}': "0+50x20",
            'token_broker_request_seconds_count{status="503"}': "0+1x20",
        },
        15,
    ),
    "GdiEnrolmentNotInForce": (
        {"token_broker_enrolment_problem": "1x20"},
        {"token_broker_enrolment_problem": "0x20"},
        10,
    ),
    "GdiNodeAway": (
        {'token_broker_node_last_heard_timestamp_seconds{node="node-a"}': "0x40"},
        {'token_broker_node_last_heard_timestamp_seconds{node="node-a"}': "0+60x40"},
        30,
    ),
    "GdiGrantsDie": (
        {"token_broker_dead_grants_total": "0x5 0+1x20"},
        {"token_broker_dead_grants_total": "0x5 0+1x2 2x20"},
        20,
    ),
    "GdiGatewayDown": ({UP: "0x20"}, {UP: "1x20"}, 10),
    "GdiGatewayErrors": (
        {f'{DOWN}200"}}': "0+97x20", f'{DOWN}503"}}': "0+3x20"},
        {f'{DOWN}200"}}': "0+99x20", f'{DOWN}403"}}': "0+50x20", f'{DOWN}503"}}': "0+1x20"},
        15,
    ),
    "GdiArchiveFails": (
        {f'gdi_gateway_denials_total{{job="{JOB}",error_class="Truncated"}}': "0x5 0+1x20"},
        {f'gdi_gateway_denials_total{{job="{JOB}",error_class="AccessDenied"}}': "0x5 0+9x20"},
        20,
    ),
    "GdiStreamsFull": (
        {f'gdi_gateway_data_streams{{job="{JOB}"}}': "64x40"},
        {f'gdi_gateway_data_streams{{job="{JOB}"}}': "64x10 63x2 64x30"},
        20,
    ),
    "GdiPolicyNotInForce": (
        {f'gdi_gateway_policy_problem{{job="{JOB}"}}': "1x20"},
        {f'gdi_gateway_policy_problem{{job="{JOB}"}}': "0x20", 'gdi_gateway_policy_problem{job="other"}': "1x20"},
        10,
    ),
}


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("prometheus"), *arguments], capture_output=True, text=True, check=False)


def installed(chart: str, folder: Path) -> Path:
    """The chart's rules as it installs them."""
    text = (ROOT / "charts" / chart / "files" / "alerts.yaml").read_text()
    file = folder / f"{chart}.yaml"
    file.write_text(text.replace("GDI_JOB", JOB).replace("GDI_MAX_STREAMS", "64"))
    return file


@pytest.mark.parametrize("chart", CHARTS)
def test_rules_and_the_dashboards_queries_are_valid(chart: str, tmp_path: Path) -> None:
    recorded = [
        {"record": f"q:{number}", "expr": query.replace("$job", JOB)} for number, query in enumerate(queries(chart))
    ]
    other = tmp_path / "dashboard.yaml"
    other.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    done = promtool("check", "rules", installed(chart, tmp_path), other)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("chart", CHARTS)
def test_each_alert_fires_in_its_case_and_in_no_other(chart: str, tmp_path: Path) -> None:
    names = [rule["alert"] for rule in rules(chart)]
    assert set(names) <= set(CASES)
    tests: list[dict[str, Any]] = []
    for name in names:
        bad, well, after = CASES[name]
        for series, fires in ((bad, True), (well, False)):
            rule = next(r for r in rules(chart) if r["alert"] == name)
            labels = rule["labels"] | ({"node": "node-a"} if "by (node)" in rule["expr"] else {})
            told = {k: v.replace("{{ $labels.node }}", "node-a") for k, v in rule["annotations"].items()}
            expected = [{"exp_labels": labels, "exp_annotations": told}] if fires else []
            tests.append(
                {
                    "interval": "1m",
                    "name": f"{name} {'fires' if fires else 'is silent'}",
                    "input_series": [{"series": s, "values": v} for s, v in series.items()],
                    "alert_rule_test": [{"eval_time": f"{after}m", "alertname": name, "exp_alerts": expected}],
                }
            )
    installed(chart, tmp_path)
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [f"{chart}.yaml"], "evaluation_interval": "1m", "tests": tests}))
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
