"""The charts as Helm renders them, for tests of their values and of their objects."""

from __future__ import annotations

import subprocess
from typing import Any

import yaml

from tests.kubernetes import programs
from tests.kubernetes.cluster import ROOT

CHARTS = ROOT / "charts"
VALUES = sorted(p.relative_to(CHARTS).as_posix() for p in CHARTS.glob("*/ci/*.yaml"))
# What the API server does not know in a cluster without their operator.
FOREIGN = ("monitoring.coreos.com",)
RELEASES = {"gdi": "gdi", "gdi-node": "node-a"}


def helm(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    program = str(programs.build() / "helm")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, input=stdin)


def template(
    values: str, *more: str, release: str | None = None, namespace: str | None = None, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """What Helm makes of CHART/ci/FILE.yaml and of further arguments; in a namespace of the release's name."""
    chart = values.split("/")[0]
    release = release or RELEASES[chart]
    where = ("-n", namespace or release, "--kube-version", "1.34.2")
    api = [f"--api-versions={group}/v1" for group in FOREIGN]
    return helm("template", release, str(CHARTS / chart), *where, "-f", str(CHARTS / values), *api, *more, stdin=stdin)


def rendered(values: str, *more: str) -> list[dict[str, Any]]:
    """Every object of a release that Helm renders."""
    done = template(values, *more)
    assert done.returncode == 0, done.stderr
    return [o for o in yaml.safe_load_all(done.stdout) if o]


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = (o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name)
    return found


def environment_of(deployment: dict[str, Any]) -> dict[str, str]:
    """{name: value} of its first container; every name once."""
    listed = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    environment = {one["name"]: one["value"] for one in listed}
    assert len(environment) == len(listed)
    return environment
