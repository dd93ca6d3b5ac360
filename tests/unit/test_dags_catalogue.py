"""Workflows as DAGs: a typed form, nothing secret among rendered fields, a bad entry named while the others load, two hundred in seconds."""

from __future__ import annotations

import runpy
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG
from airflow.sdk.exceptions import ParamValidationError
from gdi_operators.catalogue import dag_of, params_of, scan

from gdi_common.workflow import CatalogueError, load

DAGS = Path(__file__).resolve().parents[2] / "dags"


def entry(folder: Path, called: str, /, **changed: Any) -> Path:
    (folder / called).mkdir(parents=True)
    (folder / called / "Snakefile").touch()
    (folder / called / "s.json").write_text("{}")
    content = {
        "name": called, "title": f"Title of {called}", "version": "1",
        "parameters": {"regions": {"type": "integer", "minimum": 1, "default": 4}, "note": {"type": "string"}, "mode": {"enum": ["a", "b"]}},
        "required": ["mode"], "releases": [{"name": "counts", "title": "C", "path": "o.json", "schema_file": "s.json", "check": "allele-counts"}], **changed,
    }  # fmt: skip
    (folder / called / "workflow.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / called


def test_a_workflow_becomes_a_dag_with_a_typed_form(tmp_path: Path) -> None:
    params = params_of(load(entry(tmp_path, "good")))
    assert list(params) == ["datasets", "regions", "note", "mode", "grant", "ticket"]
    assert params["regions"].resolve() == 4 and params["note"].resolve() is None and params["ticket"].resolve() is None
    for name, wrong in (("regions", 0), ("regions", "x"), ("mode", "c"), ("datasets", []), ("datasets", [1]), ("ticket", 5)):
        with pytest.raises(ParamValidationError):
            params[name].resolve(wrong)
    for required in ("mode", "datasets"):
        with pytest.raises(ParamValidationError):
            params[required].resolve()


def test_the_steps_are_in_order_and_closing_is_a_teardown(tmp_path: Path) -> None:
    dag = dag_of(load(entry(tmp_path, "good")))
    assert dag.dag_id == "good" and dag.schedule is None
    assert {t.task_id: sorted(t.downstream_task_ids) for t in dag.tasks} == {
        "admit": ["analyse", "close", "release"], "analyse": ["release"], "release": ["gather"], "gather": ["close"], "close": [],
    }  # fmt: skip
    assert dag.get_task("close").is_teardown and dag.get_task("admit").is_setup
    assert dag.get_task("admit").retries == 3


def test_conf_is_no_template_field_of_any_step(tmp_path: Path) -> None:
    fields = {f for t in dag_of(load(entry(tmp_path, "good"))).tasks for f in t.template_fields}
    assert fields == {"item", "release", "releases"}


def test_a_workflow_without_releases_ends_after_its_analysis(tmp_path: Path) -> None:
    assert [t.task_id for t in dag_of(load(entry(tmp_path, "quiet", releases=[]))).tasks] == ["admit", "analyse", "close"]


def test_a_bad_entry_is_named_with_file_and_field_and_the_others_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry(tmp_path, "good")
    entry(tmp_path, "wrong", parameters={"ticket": {"type": "string"}})
    entry(tmp_path, "renamed", name="other")
    (tmp_path / "yaml").mkdir()
    (tmp_path / "yaml" / "workflow.yaml").write_text("a: [")
    (tmp_path / ".hidden").mkdir()
    monkeypatch.setenv("GDI_WORKFLOWS", str(tmp_path))
    found = [v for v in runpy.run_path(str(DAGS / "catalogue.py")).values() if isinstance(v, DAG)]
    assert [d.dag_id for d in found] == ["good"]
    with pytest.raises(CatalogueError) as told:
        runpy.run_path(str(DAGS / "catalogue_errors.py"))
    for name, field in (("wrong", "parameters"), ("renamed", "name"), ("yaml", "not YAML")):
        assert f"{name}/workflow.yaml" in str(told.value) and field in str(told.value)


def test_the_projects_own_workflows_are_all_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GDI_WORKFLOWS", raising=False)
    assert scan(DAGS.parent / "workflows")[1] == []
    runpy.run_path(str(DAGS / "catalogue_errors.py"))


def test_airflow_takes_both_files_for_dag_files() -> None:
    for file in DAGS.glob("catalogue*.py"):
        text = file.read_text().lower()
        assert "dag" in text and "airflow" in text  # its safe mode skips files without these words


def test_two_hundred_workflows_parse_in_five_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        entry(tmp_path, f"w-{number}")
    monkeypatch.setenv("GDI_WORKFLOWS", str(tmp_path))
    before = time.process_time()
    found = [v for v in runpy.run_path(str(DAGS / "catalogue.py")).values() if isinstance(v, DAG)]
    took = time.process_time() - before
    print(f"200 workflows parsed in {took:.1f} s of processor time")
    assert len(found) == 200 and took < 5
