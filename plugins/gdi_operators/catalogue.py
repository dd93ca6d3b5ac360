"""Workflows as DAGs: the folder is scanned, each good entry becomes a DAG with a typed form, each bad one a message
with file and field.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param, get_parsing_context

from gdi.contracts import cohorts
from gdi.contracts.ids import WORKFLOW_NAME, matches
from gdi.contracts.workflow import CatalogueEntry, CatalogueError
from gdi.contracts.workflow_files import load
from gdi.releases.registry import UnknownKindError, kind_of
from gdi_operators.operators import (
    AdmitRunOperator,
    CloseRunOperator,
    GatherOperator,
    ReleaseOperator,
    SnakemakeOperator,
    watch_rules,
)
from gdi_operators.settings import catalogue_folder, settings
from gdi_operators.teams import DAG_ACTIONS, dag_id_of, need_access_control, role_of, runners, split, teams

NODE_LABEL = "{{ task.item['node'] }}"
RETRIES = {
    "retries": 3,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=5),
}

STEPS: dict[str, dict[str, Any]] = {  # what a person reads in the grid, and on a task's page
    "admit": {
        "task_display_name": "Admit: check access",
        "doc_md": (
            "The broker checks the user's consent and, for every dataset, the visa. Without access nothing starts; the"
            " log names dataset and reason."
        ),
    },
    "analyse": {
        "task_display_name": "Analyse at each node",
        "doc_md": (
            "Snakemake, one for each node, sends its jobs to the node that holds the data. Every job is on the run's"
            " tab *Jobs*."
        ),
    },
    "release": {
        "task_display_name": "Release what may leave",
        "doc_md": (
            "Each node checks the output that the workflow declares against its own policy, and releases what passes."
            " Nothing else leaves it."
        ),
    },
    "gather": {
        "task_display_name": "Gather the answer",
        "doc_md": "Proves the signature of every release and puts them together: a table and a plot.",
    },
    "close": {
        "task_display_name": "Close the run",
        "doc_md": (
            "Whatever happened: tasks that still run are cancelled, tokens and capabilities of the run end. Red where"
            " the run did not succeed."
        ),
    },
}


def folder_of(dag_file: str) -> Path:
    """The catalogue: GDI_WORKFLOWS, or `workflows/` of the checkout that the DAG file is in. SettingsError where it
    names a bundle that is not there.
    """
    named = settings().workflows
    return catalogue_folder(named or Path(dag_file).resolve().parent.parent / "workflows")


@dataclass(frozen=True)
class Offer:
    """What becomes a DAG: a good entry, for a team where isolation is `team`."""

    entry: CatalogueEntry
    team: str | None = None

    @property
    def dag_id(self) -> str:
        return dag_id_of(self.entry.workflow.name, self.team)


def one_or_all(folder: Path) -> list[Offer]:
    """Every DAG of the catalogue; in a worker, which needs a single one, only its entry is read. SettingsError where
    teams are wrong: then there is none.
    """
    known = teams()
    dag_id = get_parsing_context().dag_id
    if dag_id is None:
        if known is not None:
            need_access_control()
        return [Offer(entry, team) for entry in scan(folder)[0] for team in runners(entry.workflow.name, known)]
    workflow, team = split(dag_id)
    if not matches(WORKFLOW_NAME, workflow) or team not in runners(workflow, known):
        return []
    try:
        return [Offer(usable(folder / workflow), team)]
    except (CatalogueError, OSError):
        return []


def complaints(folder: Path) -> list[str]:
    """What is wrong: entries, and workflows that a team may run and that are not there."""
    missing = [
        f"GDI_TEAMS: {name}: workflows: there is no {workflow} in {folder}"
        for name, team in (teams() or {}).items()
        for workflow in team.workflows or []
        if not (folder / workflow).is_dir()
    ]
    return [*scan(folder)[1], *missing]


def scan(folder: Path) -> tuple[list[CatalogueEntry], list[str]]:
    """(good entries, what is wrong with the others). Hidden folders are not entries."""
    if not folder.is_dir():
        return [], [f"{folder}: there is no such folder; set GDI_WORKFLOWS to the workflow catalogue"]
    good: list[CatalogueEntry] = []
    bad: list[str] = []
    for path in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "_"))):
        try:
            good.append(usable(path))
        except (CatalogueError, OSError) as error:
            bad.append(str(error))
    return good, bad


def usable(folder: Path) -> CatalogueEntry:
    """Reads one entry. CatalogueError where it is wrong, or releases something of a kind that is not installed here."""
    entry = load(folder)
    for i, release in enumerate(entry.workflow.releases):
        try:
            kind_of(release.kind)
        except UnknownKindError as error:
            raise CatalogueError(f"{folder / 'workflow.yaml'}: releases.{i}.kind: {error}") from None
    return entry


def params_of(entry: CatalogueEntry) -> dict[str, Param]:
    """The form: who starts (ticket or grant), on which datasets, and the workflow's own parameters with their
    schemas.
    """
    params = {
        "datasets": _param(
            {
                "type": "array",
                "items": {"type": "string"},
                "minItems": 1,
                "title": "Datasets",
                "description": "Their ids, one a line. Each is analysed at the node that holds it.",
            }
        )
    }
    if entry.workflow.cohorts:
        params[cohorts.PARAMETER] = _param(
            {
                "type": ["null", "object"],
                "default": None,
                "title": "Cohort",
                "description": "Whose numbers; everybody's if empty. A cohort that the nodes' operators opened (the"
                ' portal lists them), such as {"split": "sex", "level": "female"}.',
            }
        )
    for name, schema in entry.workflow.parameters.items():
        field = dict(schema)
        if name not in entry.workflow.required and "default" not in field:
            field = {"default": None, **field, "type": _nullable(field.get("type"))}
        params[name] = _param(field)
    nullable = {"type": ["null", "string"], "maxLength": 200, "default": None}
    grants = "Your consent: the id of your grant (`g-…`). It must be yours, the user who is signed in here."
    if address := settings().broker_url:
        grants += (
            f" Make one, or look it up, at [{address}/connect]({address}/connect?workflows={entry.workflow.name})."
        )
    params["grant"] = _param({**nullable, "title": "Grant", "description_md": grants})
    tickets = "From your portal, instead of a grant. Good once."
    if address:
        query = urlencode({"workflow": entry.workflow.name, "digest": entry.digest})
        tickets += f" Or [make one here]({address}/connect/start?{query}): it is shown to you, and you copy it."
    params["ticket"] = _param({**nullable, "title": "Ticket", "description_md": tickets})
    return params


def dag_of(entry: CatalogueEntry, team: str | None = None) -> DAG:
    """admit → analyse (by node) → release (by node and release) → gather → close, and a watcher for each rule. Without
    releases: admit → analyse → close.

    `dag_id` is the workflow's name, or `WORKFLOW__TEAM`: then FAB lets the team's role see and start it, and no other
    role but those that see every DAG.
    """
    flow = entry.workflow
    common: dict[str, Any] = {"workflow": flow.name}
    with DAG(
        dag_id=dag_id_of(flow.name, team),
        dag_display_name=f"{flow.title} ({team})" if team else flow.title,
        description=flow.title,
        doc_md=doc_of(entry),
        schedule=None,
        catchup=False,
        params=params_of(entry),
        render_template_as_native_obj=False,
        default_args={"owner": "gdi", **RETRIES},
        access_control={role_of(team): {"DAGs": set(DAG_ACTIONS)}} if team else None,
        tags={"gdi", "workflow", *([role_of(team)] if team else [])},
        max_active_runs=50,
    ) as dag:
        admit = AdmitRunOperator(task_id="admit", **STEPS["admit"], **common)
        analyse = (
            _snakemake()
            .partial(task_id="analyse", map_index_template=NODE_LABEL, **STEPS["analyse"], **common)
            .expand(item=admit.output)
        )
        last: Any = analyse
        if flow.releases:
            label = NODE_LABEL + " · {{ task.release }}"
            release = ReleaseOperator.partial(
                task_id="release", map_index_template=label, **STEPS["release"], **common
            ).expand(item=admit.output, release=[r.name for r in flow.releases])
            gather = GatherOperator(
                task_id="gather", releases=release.output, trigger_rule="none_failed", **STEPS["gather"], **common
            )
            analyse >> release >> gather
            last = gather
        else:
            # A task to come: what Airflow makes of it (skipped, upstream_failed) tells a run that was stopped from one
            # that failed.
            last = EmptyOperator(task_id="analysed", task_display_name="Analysed", retries=0)
            analyse >> last
        close = CloseRunOperator(task_id="close", **STEPS["close"], **common)
        last >> close.as_teardown(setups=admit, on_failure_fail_dagrun=True)
        if entry.lock is not None and entry.lock.rules:
            watch_rules(entry.lock.rules, admit=admit, analyse=analyse, close=close.task_id)
    return dag


def _snakemake() -> Any:  # type[SnakemakeOperator] | type[SnakemakePodOperator], whose `partial` is Airflow's
    """The operator of the configured launcher (GDI_LAUNCHER)."""
    if settings().launcher == "kubernetes":
        from gdi_operators.operators.snakemake_pod import SnakemakePodOperator  # brings Kubernetes' clients with it

        return SnakemakePodOperator
    return SnakemakeOperator


def doc_of(entry: CatalogueEntry) -> str:
    """The DAG's page of documentation, in Markdown: what it does, what leaves a node, what a node must offer, which
    version this is.
    """
    flow, needs = entry.workflow, entry.workflow.needs
    leaves = "\n".join(f"- {r.title}, after the check of {r.kind}, under each node's own policy" for r in flow.releases)
    images = ", ".join(f"`{image}`" for image in needs.images) or "none"
    return (
        f"# {flow.title}\n\n{flow.description.strip()}\n\n## What leaves a node\n\n{leaves or 'Nothing.'}\n\n## What it"
        f" needs at each node\n\nFor a job {needs.cpu_cores} CPU cores, {needs.ram_gb:g} GB memory, {needs.disk_gb:g}"
        f" GB disk; images: {images}.\n\nVersion {flow.version}, `{entry.digest}`{_about_rules(entry)}"
    )


def _about_rules(entry: CatalogueEntry) -> str:
    """What is wrong with rules.lock, for the page that the workflow's author looks at."""
    mend = f"its author mends that with `gdi workflow lock {entry.workflow.name}`."
    if entry.lock is None:
        return f"\n\nIt has no `rules.lock`, so its rules are not shown as tasks; {mend}"
    return (
        f"\n\nIts `rules.lock` was made for another version, so a rule may be missing among the tasks; {mend}"
        if entry.stale
        else ""
    )


def _param(schema: dict[str, Any]) -> Param:
    rest = {k: v for k, v in schema.items() if k not in ("default", "description")}
    given = {"default": schema["default"]} if "default" in schema else {}
    return Param(description=schema.get("description"), schema=rest, **given)


def _nullable(kind: Any) -> Any:  # JSON Schema's `type`: a word or a list of words
    if kind is None:
        return ["null", "string", "number", "boolean", "object", "array"]
    kinds = kind if isinstance(kind, list) else [kind]
    return kinds if "null" in kinds else ["null", *kinds]
