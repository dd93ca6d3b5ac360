"""Each wheel of `make dist`, alone in an empty environment: all of it imports, its commands say what they do, and what
came along is what the list beside its pyproject.toml names.

Where a list is to change: GDI_WRITE_LISTS=1 make test-dist writes it anew; read the difference before it is committed.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.wheels import ROOT, WHEELS

pytestmark = pytest.mark.long

# Modules that not everybody who needs the wheel imports: servers of the kit, OAuth, tasks; pictures; Celery's settings.
EXTRAS = {
    "apache-airflow-providers-gdi": "[airflow-production]",
    "gdi-contracts": "[server,oauth,tes,store,reports]",
    "gdi-releases": "[figures]",
}
LIST = "came-along.txt"
PROGRAM = """
import importlib, json, sys
failed = {}
for name in json.load(sys.stdin):
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed[name] = f"{type(error).__name__}: {error}"
print("FAILED", json.dumps(failed))
"""


def uv(*arguments: str) -> str:
    program = shutil.which("uv") or str(ROOT / ".venv" / "uv" / "bin" / "uv")
    environment = {**os.environ, "UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}
    environment.pop("VIRTUAL_ENV", None)
    done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, f"uv {' '.join(arguments[:3])}: {done.stderr[-3000:]}"
    return done.stdout


def locked() -> dict[str, str]:
    """{name: "==version ; marker"} of each entry of the lock; a package may have several."""
    lines = re.findall(r"^([a-z0-9._-]+)(==[^\\\n]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    return {name: rest.strip() for name, rest in lines}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All wheels, built anew with no network."""
    folder = tmp_path_factory.mktemp("dist")
    sys.path.insert(0, str(ROOT / "packaging"))
    try:
        import wheels
    finally:
        sys.path.remove(str(ROOT / "packaging"))
    for name in wheels.names():
        wheels.build(name, folder)
    return folder


def modules(wheel: Path) -> list[str]:
    """Every module in it that may be imported: `__main__` is a program, and Alembic runs migrations/env.py."""
    with zipfile.ZipFile(wheel) as archive:
        found = [n.removesuffix(".py").replace("/", ".") for n in archive.namelist() if n.endswith(".py")]
    programs = (".__main__", ".migrations.env")
    return [name.removesuffix(".__init__") for name in found if not name.endswith(programs)]


def commands(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if n.endswith(".dist-info/entry_points.txt")]
        parser = configparser.ConfigParser()
        parser.read_string(archive.read(names[0]).decode() if names else "")
    return list(parser["console_scripts"]) if parser.has_section("console_scripts") else []


@pytest.mark.parametrize("name", WHEELS)
def test_a_wheel_alone_imports_says_what_it_does_and_brings_what_is_listed(
    name: str, dist: Path, tmp_path: Path
) -> None:
    (wheel,) = dist.glob(f"{name.replace('-', '_')}-*.whl")
    entries = locked()
    constraints = tmp_path / "constraints.txt"
    lines = re.findall(r"^([a-z0-9._-]+==[^\\\n]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    constraints.write_text("\n".join(lines) + "\n")
    home = tmp_path / "venv"
    uv("venv", "--quiet", "--python", sys.executable, str(home))
    python = str(home / "bin" / "python")
    what = f"{name}{EXTRAS.get(name, '')} @ {wheel.as_uri()}"
    uv("pip", "install", "--quiet", "--python", python, "--find-links", str(dist), "-c", str(constraints), what)

    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AIRFLOW_HOME": str(tmp_path / "airflow")}
    done = subprocess.run(
        [python, "-I", "-c", PROGRAM],
        input=json.dumps(modules(wheel)),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "FAILED {}" in done.stdout, done.stdout[-3000:] + done.stderr[-2000:]

    for command in commands(wheel):
        shown = subprocess.run(
            [str(home / "bin" / command), "--help"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert shown.returncode == 0, f"{command} --help: {shown.stderr[-1000:]}"
        assert "usage" in shown.stdout.lower() and command in shown.stdout, shown.stdout

    came = {p["name"].lower() for p in json.loads(uv("pip", "list", "--quiet", "--python", python, "--format", "json"))}
    listing = ROOT / "packaging" / name / LIST
    if os.environ.get("GDI_WRITE_LISTS"):
        listing.write_text("\n".join(sorted(came - {name})) + "\n")
    # What is needed on some Pythons only is left out of the comparison.
    some = {entry for entry, rest in entries.items() if "python_" in rest}
    listed = set(listing.read_text().split())
    assert came - {name} - some == listed - some, "read the difference; GDI_WRITE_LISTS=1 writes the list anew"


def test_what_py_tes_brings_along_is_named() -> None:
    """py-tes 1.1 requires its own tests' and documentation's tools; our images leave them out, a wheel cannot."""
    listed = (ROOT / "packaging" / "snakemake-executor-plugin-tes-auth" / LIST).read_text().split()
    assert {"py-tes", "pytest", "sphinx-rtd-theme"} <= set(listed)
