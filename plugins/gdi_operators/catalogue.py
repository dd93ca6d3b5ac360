"""Workflows as DAGs: the folder is scanned, each good entry becomes a DAG with a typed form, each bad one a message with file and field."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param

from gdi_common.workflow import CatalogueEntry, CatalogueError, load
from gdi_operators.operators import AdmitRunOperator, CloseRunOperator, GatherOperator, ReleaseOperator, SnakemakeOperator

NODE_LABEL = "{{ task.item['node'] }}"
RETRIES = {"retries": 3, "retry_delay": timedelta(seconds=10), "retry_exponential_backoff": 2.0, "max_retry_delay": timedelta(minutes=5)}


def scan(folder: Path) -> tuple[list[CatalogueEntry], list[str]]:
    """(good entries, what is wrong with the others). Hidden folders are not entries."""
    if not folder.is_dir():
        return [], [f"{folder}: there is no such folder; set GDI_WORKFLOWS to the workflow catalogue"]
    good: list[CatalogueEntry] = []
    bad: list[str] = []
    for path in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "_"))):
        try:
            good.append(load(path))
        except (CatalogueError, OSError) as error:
            bad.append(str(error))
    return good, bad


def params_of(entry: CatalogueEntry) -> dict[str, Param]:
    """The form: who starts (ticket or grant), on which datasets, and the workflow's own parameters with their schemas."""
    params = {
        "datasets": _param(
            {"type": "array", "items": {"type": "string"}, "minItems": 1, "title": "Datasets", "description": "Ids of the datasets to analyse, one a line."}
        )
    }
    for name, schema in entry.workflow.parameters.items():
        wanted = dict(schema)
        if name not in entry.workflow.required and "default" not in wanted:
            wanted = {"default": None, **wanted, "type": _nullable(wanted.get("type"))}
        params[name] = _param(wanted)
    nullable = {"type": ["null", "string"], "maxLength": 200, "default": None}
    params["grant"] = _param({**nullable, "title": "Grant", "description": "Id of your grant (g-…). It must be yours: the user who is signed in here."})
    params["ticket"] = _param({**nullable, "title": "Ticket", "description": "From your portal, instead of a grant. Good once."})
    return params


def dag_of(entry: CatalogueEntry) -> DAG:
    """admit → analyse (by node) → release (by node and release) → gather → close. `dag_id` is the workflow's name."""
    flow = entry.workflow
    common: dict[str, Any] = {"workflow": flow.name}
    with DAG(
        dag_id=flow.name,
        dag_display_name=flow.title,
        description=flow.title,
        doc_md=f"# {flow.title}\n\n{flow.description}\n\nVersion {flow.version}, `{entry.digest}`",
        schedule=None,
        catchup=False,
        params=params_of(entry),
        render_template_as_native_obj=False,
        default_args=RETRIES,
        tags={"gdi", "workflow"},
        max_active_runs=50,
    ) as dag:
        admit = AdmitRunOperator(task_id="admit", **common)
        analyse = SnakemakeOperator.partial(task_id="analyse", map_index_template=NODE_LABEL, **common).expand(item=admit.output)
        last: Any = analyse
        if flow.releases:
            release = ReleaseOperator.partial(task_id="release", map_index_template=NODE_LABEL + " · {{ task.release }}", **common).expand(
                item=admit.output, release=[r.name for r in flow.releases]
            )
            gather = GatherOperator(task_id="gather", releases=release.output, **common)
            analyse >> release >> gather
            last = gather
        close = CloseRunOperator(task_id="close", **common)
        last >> close.as_teardown(setups=admit)
    return dag


def _param(schema: dict[str, Any]) -> Param:
    rest = {k: v for k, v in schema.items() if k not in ("default", "description")}
    given = {"default": schema["default"]} if "default" in schema else {}
    return Param(description=schema.get("description"), schema=rest, **given)


def _nullable(kind: Any) -> Any:  # JSON Schema's `type`: a word or a list of words
    if kind is None:
        return ["null", "string", "number", "boolean", "object", "array"]
    kinds = kind if isinstance(kind, list) else [kind]
    return kinds if "null" in kinds else ["null", *kinds]
