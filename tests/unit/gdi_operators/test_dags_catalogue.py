"""Workflows as DAGs: a typed form, nothing secret among rendered fields, a bad entry named while the others load, two
hundred in seconds.
"""

from __future__ import annotations

import json
import runpy
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG
from airflow.sdk.definitions.param import process_params
from airflow.sdk.exceptions import AirflowSkipException, ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

from gdi.contracts.workflow import CatalogueError, RulesLock
from gdi.contracts.workflow_files import digest_of, load
from gdi.kit.settings import SettingsError
from gdi_operators import catalogue, team_roles
from gdi_operators.catalogue import dag_of, params_of, scan
from gdi_operators.settings import catalogue_folder, settings
from gdi_operators.teams import dag_for, split, teams

DAGS = Path(__file__).resolve().parents[3] / "dags"


@pytest.fixture(autouse=True)
def fresh_settings() -> Iterator[None]:
    settings.cache_clear()
    yield
    settings.cache_clear()


def locked(folder: Path, *rules: str) -> Path:
    (folder / "rules.lock").write_text(
        RulesLock(digest=digest_of(folder), snakemake="9.27.1", rules=list(rules)).text()
    )
    return folder


def entry(folder: Path, called: str, /, **changed: Any) -> Path:
    (folder / called).mkdir(parents=True)
    (folder / called / "Snakefile").touch()
    (folder / called / "s.json").write_text("{}")
    content = {
        "name": called,
        "title": f"Title of {called}",
        "version": "1",
        "parameters": {
            "regions": {"type": "integer", "minimum": 1, "default": 4},
            "note": {"type": "string"},
            "mode": {"enum": ["a", "b"]},
        },
        "required": ["mode"],
        "releases": [
            {"name": "counts", "title": "C", "path": "o.json", "schema_file": "s.json", "kind": "allele-counts"}
        ],
        **changed,
    }
    (folder / called / "workflow.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / called


def test_a_workflow_becomes_a_dag_with_a_typed_form(tmp_path: Path) -> None:
    params = params_of(load(entry(tmp_path, "good")))
    assert list(params) == ["datasets", "regions", "note", "mode", "grant", "ticket"]
    assert params["regions"].resolve() == 4 and params["note"].resolve() is None and params["ticket"].resolve() is None
    for name, wrong in (
        ("regions", 0),
        ("regions", "x"),
        ("mode", "c"),
        ("datasets", []),
        ("datasets", [1]),
        ("ticket", 5),
    ):
        with pytest.raises(ParamValidationError):
            params[name].resolve(wrong)
    for required in ("mode", "datasets"):
        with pytest.raises(ParamValidationError):
            params[required].resolve()


def test_the_steps_are_in_order_and_closing_is_a_teardown(tmp_path: Path) -> None:
    dag = dag_of(load(entry(tmp_path, "good")))
    assert dag.dag_id == "good" and dag.schedule is None
    assert {t.task_id: sorted(t.downstream_task_ids) for t in dag.tasks} == {
        "admit": ["analyse", "close", "release"],
        "analyse": ["release"],
        "release": ["gather"],
        "gather": ["close"],
        "close": [],
    }
    assert dag.get_task("close").is_teardown and dag.get_task("admit").is_setup
    assert dag.get_task("admit").retries == 3


def test_in_kubernetes_the_analysis_is_a_pod_operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = load(entry(tmp_path, "good"))
    for launcher, operator in (("kubernetes", "SnakemakePodOperator"), ("process", "SnakemakeOperator")):
        monkeypatch.setenv("GDI_LAUNCHER", launcher)
        settings.cache_clear()
        dag = dag_of(found)
        analyse = dag.get_task("analyse")
        assert analyse.operator_class.__name__ == operator  # type: ignore[attr-defined]
        tasks = {t["__var"]["task_id"]: t["__var"] for t in DagSerialization.to_dict(dag)["dag"]["tasks"]}
        assert tasks["analyse"]["task_type"] == operator and tasks["analyse"]["_is_mapped"]
        mapped = analyse.unmap({"item": {"run": "r-1", "node": "node-a"}})  # type: ignore[attr-defined]
        assert type(mapped).__name__ == operator and mapped.retries == 3 and mapped.item["node"] == "node-a"


def test_each_rule_is_a_task_that_needs_no_worker_and_cannot_fail_the_run(tmp_path: Path) -> None:
    dag = dag_of(load(locked(entry(tmp_path, "good"), "validate", "count")))
    assert [t.task_id for t in dag.tasks if t.task_id.startswith("rules")] == [
        "rules.validate",
        "rules.count",
        "rules_shown",
    ]
    for name in ("rules.validate", "rules.count"):
        task = dag.get_task(name)
        assert task.start_from_trigger and task.retries == 0 and task.trigger_rule.value == "one_success"
        assert task.upstream_task_ids == {"admitted", "analyse"}  # begins when admitted, is cleared with the producer
        assert task.downstream_task_ids == {"rules_shown"}  # no leaf: its state does not count for the run's
        assert task.start_trigger_args is not None and task.start_trigger_args.trigger_kwargs["close"] == "close"  # type: ignore[index]
        assert not task.params  # a required one among them would end the triggerer
    assert (
        dag.get_task("rules_shown").trigger_rule.value == "all_done"
        and not dag.get_task("rules_shown").downstream_task_ids
    )
    close = dag.get_task("close")
    assert close.upstream_task_ids == {"admit", "gather"}  # closing waits for no watcher
    assert close._before() == ["admit", "analyse", "gather", "release"]  # nor do they tell it how the run ended
    with pytest.raises(
        AirflowSkipException
    ):  # where no triggerer is: dag.test(), or a trigger that could not be loaded
        dag.get_task("rules.count").execute({})
    with pytest.raises(AirflowSkipException):
        dag.get_task("rules.count").resume_execution("__fail__", {"error": "Trigger failure"}, {})
    dag.validate()  # as the dag processor does, and the constructor does not


def test_the_triggerer_can_make_a_watchers_context_though_the_form_has_required_fields(tmp_path: Path) -> None:
    stored = DagSerialization.from_dict(
        DagSerialization.to_dict(dag_of(load(locked(entry(tmp_path, "good"), "count"))))
    )
    made = process_params(
        stored, stored.get_task("rules.count"), {"datasets": ["D"], "mode": "a"}, suppress_exception=False
    )  # as create_runtime_ti's context
    assert made["datasets"] == ["D"]


def test_the_lock_is_no_part_of_the_digest_and_a_stale_or_missing_one_is_told_in_the_documentation(
    tmp_path: Path,
) -> None:
    folder = entry(tmp_path, "good")
    before = digest_of(folder)
    assert "has no `rules.lock`" in (dag_of(load(folder)).doc_md or "")
    locked(folder, "count")
    assert digest_of(folder) == before and "rules.lock" not in load(folder).files
    assert "rules.lock" not in (dag_of(load(folder)).doc_md or "")
    (folder / "Snakefile").write_text("# changed")
    stale = load(folder)
    assert stale.stale and "made for another version" in (dag_of(stale).doc_md or "")
    (folder / "rules.lock").write_text("format: gdi-rules/1\ndigest: no\nsnakemake: x\nrules: ['a b']\n")
    with pytest.raises(CatalogueError, match=r"good/rules.lock: digest: "):
        load(folder)


def test_a_worker_reads_only_the_entry_whose_task_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry(tmp_path, "good")
    entry(tmp_path, "other")
    for asked, found in (("good", ["good"]), ("../good", []), ("missing", [])):
        monkeypatch.setattr(catalogue, "get_parsing_context", lambda asked=asked: type("C", (), {"dag_id": asked}))
        assert [o.entry.workflow.name for o in catalogue.one_or_all(tmp_path)] == found


def test_the_catalogue_may_be_a_git_checkout_or_a_dag_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "checkout"
    entry(checkout / "workflows", "good")
    assert catalogue_folder(checkout) == checkout / "workflows" == catalogue_folder(checkout / "workflows")
    bundles = [
        {
            "name": "science",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(tmp_path)},
        }
    ]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
    monkeypatch.setenv("GDI_WORKFLOWS", "bundle:science/checkout")
    assert settings().need("workflows") == checkout / "workflows"
    with pytest.raises(SettingsError, match="the DAG bundle 'nonesuch' cannot be used"):
        catalogue_folder(Path("bundle:nonesuch"))


def test_conf_is_no_template_field_of_any_step(tmp_path: Path) -> None:
    fields = {f for t in dag_of(load(entry(tmp_path, "good"))).tasks for f in t.template_fields}
    assert fields == {"item", "release", "releases"}


def test_a_workflow_without_releases_ends_after_its_analysis(tmp_path: Path) -> None:
    assert [t.task_id for t in dag_of(load(entry(tmp_path, "quiet", releases=[]))).tasks] == [
        "admit",
        "analyse",
        "analysed",
        "close",
    ]


def test_a_bad_entry_is_named_with_file_and_field_and_the_others_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_two_hundred_workflows_are_parsed_with_ten_times_the_steps_of_twenty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five seconds are promised, on a machine of today: the figure. Counted are calls, the same on every machine."""
    monkeypatch.setenv("GDI_WORKFLOWS", str(tmp_path))

    def parsed() -> int:
        return sum(isinstance(v, DAG) for v in runpy.run_path(str(DAGS / "catalogue.py")).values())

    def calls(expected: int) -> int:
        count = 0

        def called(*_: object) -> None:
            nonlocal count
            count += 1

        sys.setprofile(called)
        try:
            assert parsed() == expected
        finally:
            sys.setprofile(None)
        return count

    for number in range(20):
        locked(entry(tmp_path, f"w-{number}"), *(f"rule_{n}" for n in range(5)))
    assert parsed() == 20  # what the first one imports does not count
    few = calls(20)
    for number in range(20, 200):
        locked(entry(tmp_path, f"w-{number}"), *(f"rule_{n}" for n in range(5)))
    before = time.process_time()
    assert parsed() == 200
    print(f"200 workflows parsed in {time.process_time() - before:.1f} s of processor time")
    assert calls(200) < 12 * few


# --- a DAG for each workflow and team -----------------------------------------------------------

TEAMS = {"red": {"members": ["alice"], "workflows": ["good"]}, "blue": {"members": ["bob", "alice"]}}
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"


@pytest.fixture
def team_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("good", "other"):
        entry(tmp_path / "workflows", name)
    file = tmp_path / "teams.yaml"
    file.write_text(yaml.safe_dump(TEAMS, sort_keys=False))
    for key, value in (
        ("GDI_ISOLATION", "team"),
        ("GDI_TEAMS", str(file)),
        ("GDI_WORKFLOWS", str(tmp_path / "workflows")),
        ("AIRFLOW__CORE__AUTH_MANAGER", FAB),
    ):
        monkeypatch.setenv(key, value)
    return file


def dags_of(file: str = "catalogue.py") -> dict[str, DAG]:
    return {v.dag_id: v for v in runpy.run_path(str(DAGS / file)).values() if isinstance(v, DAG)}


def test_each_team_gets_a_dag_of_each_workflow_that_it_may_run_and_only_its_role_may_see_it(team_file: Path) -> None:
    found = dags_of()
    assert sorted(found) == ["good__blue", "good__red", "other__blue"]
    for dag_id, dag in found.items():
        workflow, team = split(dag_id)
        assert (
            dag.access_control == {f"gdi-team-{team}": {"DAGs": {"can_read", "can_edit"}}}
            and f"gdi-team-{team}" in dag.tags
        )
        assert {t.workflow for t in dag.tasks if hasattr(t, "workflow")} | {
            t.partial_kwargs["workflow"] for t in dag.tasks if t.is_mapped
        } == {workflow}


def test_a_shared_catalogue_leaves_rights_to_airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry(tmp_path, "good")
    monkeypatch.setenv("GDI_WORKFLOWS", str(tmp_path))
    assert {i: d.access_control for i, d in dags_of().items()} == {"good": None}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("good__red", ["good__red"]),
        ("other__red", []),
        ("good", []),
        ("good__", []),
        ("good__green", []),
        ("../good__red", []),
        ("good__red__blue", []),
    ],
)
def test_a_worker_reads_only_the_entry_of_its_teams_dag(
    team_file: Path, monkeypatch: pytest.MonkeyPatch, asked: str, found: list[str]
) -> None:
    monkeypatch.setattr(catalogue, "get_parsing_context", lambda: type("C", (), {"dag_id": asked}))
    assert list(dags_of()) == found


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("GDI_ISOLATION", "teams", "GDI_ISOLATION: Input should be 'shared' or 'team'"),
        ("GDI_TEAMS", "", "GDI_TEAMS"),
        ("GDI_TEAMS", "/nonexistent/teams.yaml", "GDI_TEAMS: /nonexistent/teams.yaml cannot be read"),
        (
            "AIRFLOW__CORE__AUTH_MANAGER",
            "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "SimpleAuthManager does not heed",
        ),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name_and_no_dag_is_made(
    team_file: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: str, told: str
) -> None:
    monkeypatch.setenv(key, value)
    with pytest.raises(SettingsError, match=told):
        dags_of()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a: [", "is not YAML"),
        ("[red]", "valid dictionary"),
        ("Red: {}", "Red"),
        ("a__b: {}", "a__b"),
        (f"{'x' * 51}: {{}}", "xxx"),
        ("red: {member: [alice]}", "red.member"),
        ("red: {workflows: []}", "red.workflows"),
        ("red: {workflows: [../x]}", "red.workflows.0"),
    ],
)
def test_a_wrong_team_is_refused_with_its_field(team_file: Path, content: str, told: str) -> None:
    team_file.write_text(content)
    with pytest.raises(SettingsError, match=f"GDI_TEAMS: .*{told}"):
        teams()


def test_a_team_that_names_a_missing_workflow_is_told_and_the_others_load(team_file: Path) -> None:
    team_file.write_text(yaml.safe_dump({**TEAMS, "green": {"workflows": ["gone", "good"]}}))
    assert "good__green" in dags_of()
    with pytest.raises(CatalogueError, match="GDI_TEAMS: green: workflows: there is no gone"):
        dags_of("catalogue_errors.py")


def test_a_start_that_fell_due_runs_in_the_first_team_that_has_its_user_and_the_workflow(team_file: Path) -> None:
    known = teams()
    assert dag_for("good", "alice", known) == "good__red" and dag_for("other", "alice", known) == "other__blue"
    assert dag_for("good", "mallory", known) is None and dag_for("good", "mallory", None) == "good"


def test_a_teams_role_has_rights_on_its_own_dags_and_no_right_that_sees_all(team_file: Path) -> None:
    found = team_roles.permissions_by_role(teams() or {}, ["good", "other"])
    assert {r: {p for p in of if p[1].startswith("DAG:")} for r, of in found.items()} == {
        "gdi-team-red": {(a, "DAG:good__red") for a in ("can_read", "can_edit")},
        "gdi-team-blue": {(a, f"DAG:{w}__blue") for w in ("good", "other") for a in ("can_read", "can_edit")},
    }
    for permissions in found.values():
        assert not [p for p in permissions if p[0] == "can_delete" or (p[1] == "DAGs" and p[0] != "menu_access")]


def test_rights_are_taken_away_only_where_that_was_asked_for(
    team_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GDI_ISOLATION", "shared")
    assert team_roles.main([]) == 2 and "nothing was changed" in capsys.readouterr().err


EXAMPLES = sorted((DAGS.parent / "plugins" / "gdi_operators" / "example_dags").glob("example_*.py"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda f: f.stem)
def test_an_examples_deferred_steps_have_a_second_try(file: Path) -> None:
    """Airflow may take a deferral for a killed task (triggers/deferral_race.py): a step without tries is lost by it."""
    for task in runpy.run_path(str(file))["admit"].dag.tasks:
        deferred = task.task_type in ("SnakemakeOperator", "SnakemakePodOperator", "ReleaseOperator")
        assert task.retries >= 1 or not deferred, task.task_id
