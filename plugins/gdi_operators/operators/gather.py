"""GatherOperator: fetches what the nodes released, proves it, and makes one answer of it. Runs no workflow code."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from gdi.contracts import broker_api as m
from gdi.contracts.workflow import Release as Declared
from gdi_operators.gather import allele_counts, keep, picture
from gdi_operators.gather.keep import write
from gdi_operators.gather.verify import NotProvenError, check
from gdi_operators.hooks.gateway import GatewayClient
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.operators.base import RunOperator
from gdi_operators.runs import Context, entry_of, item_of, open_run
from gdi_operators.settings import settings


class GatherOperator(RunOperator):
    """`releases`: the results of the mapped ReleaseOperator. Writes into `<GDI_RESULTS_DIR>/<run id>/`: `answer.tsv`,
    `answer.png`, `releases.json`,

    the releases themselves (`releases/NODE/NAME.json`) and the workflow's files (`workflow/`), so that the run's page
    can prove and pack them at any time. Every release's checksum and the node's signature are proven before it is read.
    Result: `{run, folder, answer, plot, releases, alleles, withheld, nodes}`.
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
            entry = entry_of(self.workflow)
            folder = settings().need("results_dir") / run.id
            folder.mkdir(parents=True, exist_ok=True)
            result: dict[str, Any] = {"run": run.id, "folder": str(folder), "nodes": [i.node for i in run.plan]}
            for declared in entry.workflow.releases:
                parts = {str(r["node"]): r for r in released if r["name"] == declared.name}
                missing = [i.node for i in run.plan if i.node not in parts]
                if missing:
                    raise AirflowFailException(
                        f"No release {declared.name} of {', '.join(missing)}: clear the task release of these nodes."
                    )
                data = {node: self._fetch(hook, run, part) for node, part in parts.items()}
                keep.releases(folder, declared.name, data)
                if declared.gather == "allele-counts":
                    result |= self._allele_counts(declared, run, data, folder, entry.workflow.title)
        keep.workflow(folder, entry, run.digest)
        summary = self._summary(run, released) | keep.origin(context, entry, run)
        write(folder / "releases.json", lambda f: f.write_text(json.dumps(summary, indent=1)))
        return {**result, "releases": str(folder / "releases.json")}

    def _fetch(self, hook: TokenBrokerHook, run: m.Run, part: dict[str, Any]) -> bytes:
        item = item_of(run, str(part["node"]))
        data = GatewayClient(hook, run.id, item.model_dump(mode="json")).fetch(
            str(part["name"]), limit=settings().max_release_bytes
        )
        try:
            check(
                data,
                part,
                public_key=item.public_key,
                run=run.id,
                digest=run.digest,
                workflow=run.workflow,
                attempt=run.attempt,
            )
        except NotProvenError as error:
            raise AirflowFailException(f"{error} It is not used; tell the node's operator.") from None
        self.log.info("Fetched %s of %s: %d bytes, signature verified.", part["name"], part["node"], len(data))
        return data

    def _allele_counts(
        self, declared: Declared, run: m.Run, data: dict[str, bytes], folder: Path, title: str
    ) -> dict[str, Any]:
        try:
            releases = {node: allele_counts.parse(node, content) for node, content in data.items()}
        except allele_counts.BadReleaseError as error:
            raise AirflowFailException(str(error)) from None
        nodes = [i.node for i in run.plan]
        answers = allele_counts.merge(releases, nodes)
        answer, plot = folder / "answer.tsv", folder / "answer.png"
        write(answer, lambda f: f.write_text(allele_counts.table(answers)))
        write(plot, lambda f: picture.draw(answers, f, title=title, nodes=nodes))
        withheld = sum(a.ac is None for a in answers)
        self.log.info(
            "%s: %d alleles, of which %d are withheld by a node. Answer: %s",
            declared.title,
            len(answers),
            withheld,
            answer,
        )
        return {"answer": str(answer), "plot": str(plot), "alleles": len(answers), "withheld": withheld}

    def _summary(self, run: m.Run, released: Iterable[dict[str, Any]]) -> dict[str, Any]:
        return {
            "run": run.id,
            "attempt": run.attempt,
            "workflow": run.workflow,
            "digest": run.digest,
            "user": run.user,
            "datasets": run.datasets,
            "nodes": {i.node: {"datasets": i.datasets, "public_key": i.public_key} for i in run.plan},
            "releases": list(released),
        }
