"""The images hold what they need to run, and nothing more: small, unprivileged, without tools, without secrets."""

from __future__ import annotations

import json
import tarfile
from functools import cache
from typing import Any

import pytest

from tests.kubernetes import images
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.pods import finished, pod

PACKAGES = images.environment().PACKAGES
OURS = {package for packages in PACKAGES.values() for package in packages}
TOOLS = {
    "pip",
    "pip3",
    "uv",
    "gcc",
    "cc",
    "make",
    "apt",
    "apt-get",
    "dpkg",
    "perl",
    "hatchling",
    "curl",
    "wget",
    "ssh",
    "sudo",
    "su",
}
IMPORTS = """
import importlib, pkgutil
for package in %r:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print("all imported")
"""
# What an operator mounts where a process writes: nothing else of the file system is writable.
SCRATCH = {"airflow": ["/opt/airflow", "/tmp"]}


def _own(target: str) -> list[str]:
    """gdi.kit has parts for servers and parts for pods: each image imports those that it needs through its own
    packages.
    """
    return [package for package in PACKAGES[target] if package != "gdi.kit"]


@cache
def _archive(target: str) -> tuple[dict[str, Any], dict[str, tarfile.TarInfo]]:
    """(config, every file by path) of a built image."""
    found: dict[str, tarfile.TarInfo] = {}
    with tarfile.open(images.archive_of(target)) as archive:
        manifest = json.load(archive.extractfile("manifest.json"))[0]  # type: ignore[arg-type]
        config = json.load(archive.extractfile(manifest["Config"]))  # type: ignore[arg-type]
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(layer)) as files:
                found.update({member.name.lstrip("./"): member for member in files})
    return config, found


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.kubernetes_long] if name == "airflow" else []) for name in images.TARGETS
    ]
)
def target(request: pytest.FixtureRequest) -> str:
    images.built(request.param)
    return str(request.param)


def test_each_image_keeps_its_size(target: str) -> None:
    size = images.built(target)
    print(f"\n{target:10} {size:6.1f} MB")
    assert size < images.BUDGET_MB.get(target, 10_000)


def test_no_image_runs_as_root(target: str) -> None:
    assert _archive(target)[0]["config"]["User"] == "10001:10001"


def test_no_image_holds_a_tool_or_a_set_uid_program(target: str) -> None:
    files = _archive(target)[1]
    programs = {name for name in files if "/bin/" in f"/{name}" or "/sbin/" in f"/{name}"}
    assert not {name for name in programs if name.rsplit("/")[-1] in TOOLS}
    assert not [name for name, info in files.items() if info.isfile() and info.mode & 0o6000]
    assert not [
        name
        for name in files
        if name.endswith(("site-packages/pip", "site-packages/uv", "site-packages/setuptools", "site-packages/pytest"))
    ]


def test_no_file_can_be_changed_by_who_runs(target: str) -> None:
    free = {
        name.rstrip("/")
        for name, info in _archive(target)[1].items()
        if (info.isfile() or info.isdir()) and info.mode & 0o002
    }
    assert free <= {"tmp", "var/tmp", "run/lock", "var/lock"}
    assert not [name for name, info in _archive(target)[1].items() if info.uid == 10001]


def test_no_secret_of_the_build_is_left(target: str) -> None:
    config, files = _archive(target)
    assert not [name for name, info in files.items() if name.startswith("run/secrets") and info.isfile() and info.size]
    assert not [name for name in files if name.endswith(("pip.conf", "uv.toml", ".netrc"))]
    history = json.dumps(config.get("history", [])) + json.dumps(config["config"].get("Env", []))
    assert "://" not in history


def test_no_first_process_takes_a_module_from_the_folder_that_it_starts_in(target: str) -> None:
    """It is /tmp, where a process writes. A rule's own scripts find what lies beside them, so its children may."""
    config = _archive(target)[0]["config"]
    environment = dict(line.split("=", 1) for line in config["Env"])
    entry = config.get("Entrypoint") or []
    runs_workflows = target in ("snakemake", "task")
    assert environment["PYTHONSAFEPATH"] == ("" if runs_workflows else "1")
    assert not (runs_workflows and entry) or entry[:2] == ["python3", "-P"]


def test_each_image_holds_the_packages_it_runs_and_no_other(target: str) -> None:
    held = {name.split("/site-packages/")[1].rstrip("/") for name in _archive(target)[1] if "/site-packages/" in name}
    rooms = {path.parent.name for path in (images.ROOT / "gdi").glob("*/__init__.py")}
    assert {name.replace("/", ".") for name in held} & (OURS | {f"gdi.{room}" for room in rooms}) == set(
        PACKAGES[target]
    )


def test_each_image_says_what_it_is(target: str) -> None:
    labels = _archive(target)[0]["config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == f"gdi-{target}"
    assert labels["org.opencontainers.image.version"] == images.VERSION
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_each_image_runs_all_its_code_unprivileged_on_a_read_only_file_system(target: str, cluster: Cluster) -> None:
    cluster.load(images.archive_of(target))
    scratch = SCRATCH.get(target, [])
    made = pod(
        f"imports-{target}",
        IMPORTS % _own(target),
        target=target,
        volumes=[{"name": f"s{i}", "emptyDir": {}} for i in range(len(scratch))],
    )
    made["spec"]["containers"][0]["volumeMounts"] = [
        {"name": f"s{i}", "mountPath": path} for i, path in enumerate(scratch)
    ]
    cluster.apply([made])
    assert finished(cluster, f"imports-{target}", 120).strip().endswith("all imported")
