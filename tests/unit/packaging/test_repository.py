"""The repository explains itself: few names at its top, one version, an index of decisions, CI that calls make."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
TOP = {
    "CHANGELOG.md": "what a user notices, by version",
    "Dockerfile": "the five images",
    "LICENSE": "Apache-2.0",
    "Makefile": "every command of a developer",
    "README.md": "where to begin",
    "charts": "Helm charts of coordinator and node",
    "dags": "what Airflow reads",
    "docs": "design, contracts, decisions, operation",
    "gdi": "contracts, kit and tools that the products share",
    "node_gateway": "the node's door",
    "packaging": "environment, wheels, images, CI",
    "plugins": "what Airflow and Snakemake load by name",
    "pyproject.toml": "the distribution and its tools",
    "requirements.lock": "every dependency by hash",
    "snakemake_tes_auth": "the Snakemake plugins' code",
    "tests": "tests, benchmarks and their kits",
    "token_broker": "the token broker",
    "workflows": "the catalogue",
}


def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git work tree")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def test_the_top_level_has_at_most_18_entries_and_each_is_explained() -> None:
    top = {name.split("/")[0] for name in tracked() if not name.startswith(".")}
    assert top <= set(TOP), f"say in TOP what these are, or put them below: {sorted(top - set(TOP))}"
    assert len(top) <= 18


def test_the_version_stands_in_one_place() -> None:
    """Where a format wants it written down (charts, the Dockerfile, examples in documents), it is the same."""
    for name in ("gdi", "gdi-node"):
        chart = yaml.safe_load((ROOT / "charts" / name / "Chart.yaml").read_text())
        assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION), name
    assert re.findall(r"^ARG VERSION=(.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE) == [VERSION]
    values = yaml.safe_load((ROOT / "charts" / "gdi" / "values-airflow.yaml").read_text())
    tags = {values["defaultAirflowTag"], *(image["tag"] for image in values["images"].values() if image.get("tag"))}
    assert tags == {VERSION}
    texts = [*(ROOT / "docs").glob("*.md"), *(ROOT / "charts").rglob("*.yaml"), ROOT / "README.md"]
    found = {(f.name, v) for f in texts for v in re.findall(r"/gdi-[a-z$]+:(\d+\.\d+\.\d+)", f.read_text())}
    assert found and {version for _, version in found} == {VERSION}, found


def test_no_code_repeats_the_version() -> None:
    """Code asks `gdi.kit.version`. A new workflow's own version is its author's."""
    theirs = {"gdi/cli/authoring/init.py", "gdi/cli/authoring/templates.py"}
    rooms = ("gdi/", "token_broker/", "node_gateway/", "snakemake_tes_auth/", "plugins/", "packaging/")
    own = [n for n in tracked() if n.startswith(rooms) and n.endswith((".py", ".toml")) and n not in theirs]
    assert [n for n in own if f'"{VERSION}"' in (ROOT / n).read_text()] == []


def test_every_decision_is_in_the_index_with_date_and_status() -> None:
    folder = ROOT / "docs" / "decisions"
    rows = re.findall(
        r"^\| \[(\d{3})\]\((.+?)\) \| (.+) \| (\d{4}-\d\d-\d\d) \| (accepted|superseded by \d{3}) \|$",
        (folder / "README.md").read_text(),
        re.MULTILINE,
    )
    files = {path.name for path in folder.glob("[0-9]*.md")}
    assert {row[1] for row in rows} == files, "docs/decisions/README.md names each decision once"
    assert len(rows) == len(files)
    for number, file, title, *_ in rows:
        assert file.startswith(f"{number}-")
        assert (folder / file).read_text().partition("\n")[0].removeprefix(f"# {number}. ") == title, file


def test_every_package_that_is_shipped_carries_its_types() -> None:
    packages = [*(ROOT / "gdi").iterdir(), *(ROOT / "plugins").iterdir()]
    packages += [ROOT / name for name in ("token_broker", "node_gateway", "snakemake_tes_auth")]
    assert [p.name for p in packages if (p / "__init__.py").exists() and not (p / "py.typed").exists()] == []


def test_workflows_and_hooks_only_call_make() -> None:
    files = list((ROOT / ".github" / "workflows").glob("*.yml"))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [
        step["run"]
        for file in files
        for job in yaml.safe_load(file.read_text())["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    commands += [hook["entry"] for repo in hooks for hook in repo["hooks"]]
    assert len(files) >= 2 and len(commands) >= 4
    for command in commands:
        word, _, target = command.removeprefix("sudo ").partition(" ")
        assert word == "make" and (target in targets or target.startswith("nightly-${{")), command


def test_no_document_is_wider_than_120_columns() -> None:
    """Tables, headings and code blocks are as wide as they must be; so is a word without a blank."""
    wide = []
    for name in (n for n in tracked() if n.endswith(".md")):
        fenced = False
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            fenced ^= line.lstrip().startswith("```")
            free = fenced or line.startswith(("|", "#")) or " " not in line[:100].strip()
            if len(line) > 120 and not free:
                wide.append(f"{name}:{number}")
    assert wide == []


def test_no_test_imports_a_test() -> None:
    """What two share lies in tests/support."""
    imports = re.compile(r"^\s*(from|import) tests\.\S*\btest_\w+", re.MULTILINE)
    files = [f for f in tracked() if f.startswith("tests/") and f.endswith(".py")]
    assert [f for f in files if imports.search((ROOT / f).read_text())] == []


def test_no_line_keeps_a_form_of_its_own() -> None:
    marks = tuple("# fmt: " + word for word in ("skip", "off", "on"))
    assert [f for f in tracked() if f.endswith(".py") and any(mark in (ROOT / f).read_text() for mark in marks)] == []


def test_no_file_holds_the_marks_of_a_merge() -> None:
    """No tool reads a chart's templates before Helm does."""
    marks = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)
    texts = {name: (ROOT / name).read_bytes().decode(errors="replace") for name in tracked()}
    assert [name for name, text in texts.items() if marks.search(text)] == []


def test_lines_of_charts_are_within_120_columns() -> None:
    """Schemas are not: a pattern and a description are one line of JSON."""
    files = [f for f in (ROOT / "charts").rglob("*") if f.suffix in (".yaml", ".tpl", ".txt", ".py")]
    wide = [
        f"{f.relative_to(ROOT)}:{n}"
        for f in files
        for n, line in enumerate(f.read_text().split("\n"), 1)
        if len(line) > 120
    ]
    assert files and wide == []
