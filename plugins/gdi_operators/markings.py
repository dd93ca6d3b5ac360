"""What a person's mark looks like: Airflow calls a task that somebody marks a success just so, but it has made no
result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator

from gdi_operators.operators.base import RunOperator


def unmade(dag: Any, ti: Any, names: Iterable[str], states: Mapping[str, str]) -> list[str]:
    """Of the run's own steps among the tasks `names`, those that count as done and made nothing: `analyse[0]`.

    `states`: by task id, with `_INDEX` where it is mapped, as the task SDK gives them. A success without a result was
    marked. One that was skipped was to come when the run was marked, unless an author's own task may have skipped it.
    """
    kinds = {name: operator_class(dag, name) for name in names}
    ours = [name for name, kind in kinds.items() if issubclass(kind, RunOperator)]
    skips = all(issubclass(kind, RunOperator | EmptyOperator) for kind in kinds.values())
    found = []
    for key, state in sorted(states.items()):
        name, index = _split(key, kinds)
        waited = name in kinds and state == "skipped" and skips
        if waited or (name in ours and state == "success" and _result(ti, name, index) is None):
            found.append(_shown(name, index))
    return found


def analyses_without(dag: Any, ti: Any, names: Iterable[str], node: str) -> list[str]:
    """Of the tasks `names`, the analyses that made no result for the node."""
    from gdi_operators.operators.snakemake_steps import SnakemakeSteps

    found = []
    for name in sorted(n for n in names if issubclass(operator_class(dag, n), SnakemakeSteps)):
        results = ti.xcom_pull(task_ids=[name])
        if not any(isinstance(r, dict) and r.get("node") == node for r in results or []):
            found.append(name)
    return found


def operator_class(dag: Any, name: str) -> type:
    """The operator's class; of a mapped task, that of its parts."""
    task = dag.get_task(name)
    kind: type = getattr(task, "operator_class", None) or type(task)
    return kind


def _split(key: str, kinds: Mapping[str, Any]) -> tuple[str, int]:
    name, _, index = key.rpartition("_")
    return (name, int(index)) if key not in kinds and name in kinds and index.isdigit() else (key, -1)


def _result(ti: Any, name: str, index: int) -> Any:
    return ti.xcom_pull(task_ids=name, map_indexes=index)


def _shown(name: str, index: int) -> str:
    return name if index < 0 else f"{name}[{index}]"
