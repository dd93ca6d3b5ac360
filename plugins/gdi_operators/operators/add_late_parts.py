"""AddLatePartsOperator: a node's part that comes after its run was closed makes the next version of the answer."""

from __future__ import annotations

import time
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from gdi.contracts import broker_api as m
from gdi.contracts.orders import LatePart
from gdi.kit.problem import ProblemError
from gdi_operators.admitted_workflow import entry_of_run
from gdi_operators.closing import order_close
from gdi_operators.gather import keep, making
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.operators.base import RunOperator
from gdi_operators.results import store
from gdi_operators.results.folder import TITLES, read_summary
from gdi_operators.retry import short
from gdi_operators.runs import Context
from gdi_operators.settings import settings


class AddLatePartsOperator(RunOperator):
    """Asks the broker which late parts have come, or will not come any more. One that came is proven and merged with
    the releases of the answer that is there: nothing is computed again, no other node is asked. Then the node's order
    to close is put. One that cannot be had now is tried again until its deadline, one that is not the node's own
    is never used; neither holds up the others.

    Result: `{added: {run: version}, ended: {run: [nodes]}, waiting}`.
    """

    def __init__(self, *, workflow: str = "", **kwargs: Any) -> None:
        super().__init__(workflow=workflow, **kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        added: dict[str, int] = {}
        ended: dict[str, list[str]] = {}
        waiting: list[str] = []
        with self.broker() as hook:
            parts = hook.late_parts()
            for run in {part.run.id: part.run for part in parts}.values():
                mine = [part for part in parts if part.run.id == run.id]
                try:
                    if came := [part for part in mine if part.release.state == "succeeded"]:
                        added[run.id] = self._add(hook, run, came)
                except AirflowFailException as error:  # never: nobody makes a new version of what is wrong
                    self.log.error("Run %s: its late part is not used: %s", run.id, short(error))
                except (AirflowException, ProblemError) as error:
                    self.log.error("Run %s: its late part is not added now: %s", run.id, short(error))
                    if any(time.time() < part.release.deadline for part in mine):
                        waiting.append(run.id)
                        continue
                for part in mine:
                    order_close(hook, run, part.release.node, 0)
                    hook.forget_late_part(run.id, part.release.node, part.release.attempt)
                    ended.setdefault(run.id, []).append(part.release.node)
        return {"added": added, "ended": ended, "waiting": waiting}

    def _add(self, hook: TokenBrokerHook, run: m.Run, parts: list[LatePart]) -> int:
        """The number of the answer's version that has these parts."""
        folder = settings().need("results_dir") / run.id
        store.own(folder)
        store.restore(run.id, folder, TITLES)
        before = read_summary(folder)
        if before is None:
            raise AirflowFailException("there is no answer to add it to")
        store.restore(run.id, folder, [release.file for release in before.releases])
        entry = entry_of_run(run.workflow, run)
        fresh = [
            {**one.model_dump(mode="json"), "node": part.release.node, "attempt": part.release.attempt, "kind": r.kind}
            for part in parts
            for one in part.release.released
            for r in entry.workflow.releases
            if r.name == one.name
        ]
        late = {part.release.node for part in parts}
        old = [release.model_dump(mode="json") for release in before.releases if release.node not in late]
        result = making.answer_of(hook, run, entry, folder, [*old, *fresh], keep.origin_of(before))
        self.log.info("Run %s: version %d has %s too.", run.id, result["version"], ", ".join(sorted(late)))
        return int(result["version"])
