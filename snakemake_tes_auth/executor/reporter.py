"""What the executor tells through Snakemake's log: the rules and jobs that there are, what becomes of each, and what it
used. logger.py makes events of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from tes.models import Task

from snakemake_tes_auth.executor.submit import Submission
from snakemake_tes_auth.session import Session
from snakemake_tes_auth.tasks.usage import Usage, usage
from snakemake_tes_auth.workflow import adapter
from snakemake_tes_auth.workflow.jobview import JobView


class Reporter:
    """`watched`: somebody makes events of the log. Who reads it otherwise is not told each step of each job. May be
    called on any thread.
    """

    def __init__(self, logger: Any, session: Session, *, watched: bool) -> None:
        self.watched = watched
        self._logger = logger
        self._session = session
        self._usage = Usage(session.tes, {"gdi-run": session.name}, self._used)

    def plan(self, dag: Any, rule_order: Iterable[str], submitter: Any) -> None:
        """What the workflow consists of, also the part that an earlier process finished, so that progress does not jump
        back.
        """
        everything = list(adapter.jobs(dag))
        work = [job for job in everything if not adapter.does_nothing(job)]
        counts = {name: 0 for name in rule_order}
        for job in work:
            counts[job.rule.name] = counts.get(job.rule.name, 0) + 1
        self._event(
            "The workflow's rules",
            kind="rules",
            counts={k: v for k, v in counts.items() if v},
            all_jobs=len(everything),
        )
        if not self.watched:
            return
        planned = []
        for job in work:
            view = adapter.named(job)
            key = submitter.key(view)
            if adapter.has_to_run(dag, job):
                planned.append({"jobid": view.jobid, "rule": view.rule, "job": key, "wildcards": view.wildcards})
            else:
                self.job(view, key, "done", message="done before")
        self._event(f"{len(planned)} jobs are planned", kind="job", state="planned", each=planned)

    def job(self, view: JobView, key: str, state: str, **details: Any) -> None:
        known = {k: v for k, v in details.items() if v is not None}
        text = f"Job {view.jobid} ({view.rule}) is {state}" + (f": {known['message']}" if "message" in known else "")
        self._event(
            text,
            kind="job",
            jobid=view.jobid,
            rule=view.rule,
            job=key,
            wildcards=view.wildcards,
            state=state,
            tries=view.attempt,
            **known,
        )

    def submitted(self, entry: Submission) -> None:
        again = "found again after a restart" if entry.adopted and not entry.platform_tries else None
        self.job(entry.view, entry.key, "submitted", task=entry.identifier, node=self._session.node, message=again)

    def ended(self, entry: Submission) -> None:
        """The entry's task is COMPLETE: what it used is asked for, beside the work."""
        if self.watched and self._usage.ended(entry.identifier, _who(entry)):
            self._session.loop.start(self._usage.ask())

    def used(self, entry: Submission, task: Task) -> None:
        """What a task used that was read for another reason."""
        if self.watched and (found := usage(task)):
            self._used(_who(entry), found)

    def finish(self) -> None:
        """The run is over: what was not asked for by then, within 20 s."""
        self._session.loop.run(self._usage.finish())

    def _used(self, who: dict[str, Any], found: dict[str, float]) -> None:
        self._event(
            f"A job of {who['rule']} used " + ", ".join(f"{k} {v:g}" for k, v in found.items()),
            kind="job",
            usage=found,
            **who,
        )

    def _event(self, text: str, **event: Any) -> None:
        self._logger.info(text, extra={"gdi_event": {"time": time.time(), **event}})


def _who(entry: Submission) -> dict[str, Any]:
    return {"rule": entry.view.rule, "job": entry.key, "wildcards": entry.view.wildcards, "task": entry.identifier}
