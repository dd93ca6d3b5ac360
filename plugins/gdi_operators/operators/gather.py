"""GatherOperator: fetches what the nodes released, proves it, and makes one answer of it. Runs no workflow code."""

from __future__ import annotations

from typing import Any

from gdi_operators import admitted_workflow
from gdi_operators.gather import keep, making
from gdi_operators.operators.base import RunOperator
from gdi_operators.results import store
from gdi_operators.results.folder import TITLES
from gdi_operators.runs import Context, open_run
from gdi_operators.settings import settings


class GatherOperator(RunOperator):
    """`releases`: the results of the mapped ReleaseOperator. Writes into `<GDI_RESULTS_DIR>/<run id>/`: `answer.tsv`,
    `answer.png`, `releases.json`,

    the releases themselves (`releases/NODE/NAME.json`) and the workflow's files (`workflow/`), so that the run's page
    can prove and pack them at any time. Every release's checksum and the node's signature are proven before it is read.
    Result: `{run, folder, answer, plot, releases, withheld, nodes, version, missing}` (why each node that is not in the
    answer is not) and the number of rows under the kind's noun for
    them (`alleles`).
    """

    template_fields = ("releases",)

    def __init__(
        self, *, releases: Any, **kwargs: Any
    ) -> None:  # an XComArg until the task runs, then an iterable of dicts
        super().__init__(**kwargs)
        self.releases = releases

    def execute(self, context: Context) -> dict[str, Any]:
        released: list[dict[str, Any]] = [dict(r) for r in self.releases or []]
        with self.broker() as hook:
            run = open_run(hook, context, self.workflow)
            entry = admitted_workflow.entry_of_run(self.workflow, run)
            folder = settings().need("results_dir") / run.id
            store.own(folder)
            store.restore(run.id, folder, TITLES)
            return making.answer_of(hook, run, entry, folder, released, keep.origin(context, entry, run))
