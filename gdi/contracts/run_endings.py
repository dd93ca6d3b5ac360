"""How a run stands and why, in one sentence: a pure function of what Airflow, the broker and the results say, for every
reader of a run alike (API, WES, Airflow's tabs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from gdi.contracts.progress import NodeProgress
from gdi.contracts.runs import Failing

RunStanding = Literal[
    "starting",  # taken, not yet with Airflow
    "queued",  # Airflow has it, and it waits for its turn
    "admitting",  # the broker checks who may read what
    "running",  # jobs run at the nodes, or their results are released and gathered
    "waiting",  # for a person of a node, who reviews what would leave
    "stopping",  # its user ended it; tasks at the nodes are being cancelled
    "succeeded",
    "empty",  # it ended well, and no node released anything
    "failed",
    "refused",  # not admitted, or a node refused what it asked to release
    "stopped",
]
STANDINGS: tuple[RunStanding, ...] = get_args(RunStanding)
ENDED: frozenset[RunStanding] = frozenset({"succeeded", "empty", "failed", "refused", "stopped"})
IN_AIRFLOW = "airflow"  # as `stopped_by`
# The note of a DAG run that was stopped says by whom: the portal writes the first two, the tab Jobs the third
# (ui/src/api.ts), and gdi_operators.standing_facts reads them.
STOP_NOTE = "gdi: stopped by its user"
COMMITTEE_NOTE = "gdi: stopped by the access committee "  # and then its name and reason
AIRFLOW_NOTE = "gdi: stopped in Airflow"
Fault = Literal["", "workflow", "access", "system"]  # whose it is that a run failed: the work's, access's, ours


@dataclass(frozen=True)
class StepFacts:
    """A task of the run's DAG: its state in Airflow and, where it is mapped, the node it works for."""

    task: str
    state: str
    node: str = ""


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run. Every field may be missing: the function says what can be said.

    `airflow`: the DAG run's state (queued, running, success, failed; None: not there). `closing`: that run is over,
    and its last step is still telling the nodes. `reason`: why a step failed, in the words of whoever refused it (a
    sentence of the broker or of a gateway). `stop_requested`: its user asked that it ends, or `stopped_by`: an access
    committee (`NAME: REASON`), or somebody `IN_AIRFLOW`. `released`: how much left all nodes together; None while that
    is not known; `rows`: of the answer, as many `row`s. `missing`: nodes that took part and whose release is not there,
    each with the reason.
    """

    airflow: str | None = None
    admitted: bool | None = None
    outcome: str = ""
    closing: bool = False
    failing: Failing | None = None
    nodes: Sequence[NodeProgress] = ()
    steps: Sequence[StepFacts] = ()
    reason: str = ""
    stop_requested: bool = False
    stopped_by: str = ""
    released: int | None = None
    unit: str = "row"
    rows: int | None = None
    row: str = "row"
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunVerdict:
    """`sentence` stands on top of every page of the run; `next_step`: what its user can do now; empty: nothing."""

    standing: RunStanding
    sentence: str
    next_step: str = ""
    waiting_for: tuple[str, ...] = ()
    fault: Fault = ""

    @property
    def ended(self) -> bool:
        return self.standing in ENDED


def judge(facts: RunFacts) -> RunVerdict:
    """How the run stands. Nothing about it is good unless Airflow and broker both say so."""
    if facts.airflow is None:
        return RunVerdict("starting", "The start was taken and is on its way to Airflow.")
    if facts.airflow == "queued":
        return RunVerdict("queued", "The run waits for its turn.")
    if facts.airflow not in ("success", "failed"):
        return _going_on(facts)
    if facts.airflow == "success" and facts.outcome in ("", "success") and facts.admitted is not False:
        return _success(facts)
    return _unsuccessful(facts)


def _going_on(facts: RunFacts) -> RunVerdict:
    if facts.stop_requested:
        return RunVerdict("stopping", f"{_stopper(facts)}; its tasks at the nodes are being cancelled.")
    if facts.failing is not None:
        return RunVerdict("stopping", f"{_node_failed(facts.failing)} The other nodes are being stopped.")
    failed = [step for step in facts.steps if step.state == "failed" and not step.task.startswith("rules.")]
    if failed and failed[0].task != "close":
        return RunVerdict("stopping", f"{_step_failed(failed, facts)} What still runs is being ended.")
    if not facts.admitted:
        return RunVerdict("admitting", "The broker checks your consent and, for each dataset, your access.")
    reviews = [s.node for s in facts.steps if s.task == "release" and s.state == "deferred"]
    if reviews:
        waiting = tuple(f"review at {node}" if node else "review" for node in reviews)
        where = _names([node for node in reviews if node])
        return RunVerdict(
            "waiting",
            f"A person of {where or 'a node'} reviews what would leave it; the run goes on when they decided.",
            waiting_for=waiting,
        )
    if facts.closing:
        return RunVerdict("stopping", "The run was ended; its tasks at the nodes are being cancelled.")
    done, total = sum(n.done for n in facts.nodes), sum(n.total for n in facts.nodes)
    if facts.nodes and all(n.state == "success" for n in facts.nodes):
        return RunVerdict("running", "All jobs are done; the nodes check what may leave them.")
    if total:
        return RunVerdict("running", f"{done:,} of {total:,} jobs are done at {_count(len(facts.nodes), 'node')}.")
    return RunVerdict("running", "The run was admitted, and its first jobs are being prepared.")


def _success(facts: RunFacts) -> RunVerdict:
    if facts.missing:
        left_out = _names([f"{node} ({why})" for node, why in facts.missing.items()])
        return RunVerdict("succeeded", f"The answer is there, but without {left_out}.")
    if facts.released == 0:
        return RunVerdict(
            "empty",
            "The run ended well, but every node withheld everything: no number was large enough to leave.",
            "Ask for larger cohorts or fewer details; each node's part of the results says what it withheld and why.",
        )
    if facts.released is None:
        return RunVerdict("succeeded", "The run ended well.")
    if facts.rows is None:  # of before 0.2, or without an answer
        return RunVerdict("succeeded", f"The answer is there: {_count(facts.released, facts.unit)} left the nodes.")
    return RunVerdict("succeeded", f"The answer is there: {_count(facts.rows, facts.row)}.")


def _unsuccessful(facts: RunFacts) -> RunVerdict:
    if facts.closing:
        return _going_on(facts)
    if facts.stop_requested:
        again = "Ask that committee." if facts.stopped_by not in ("", IN_AIRFLOW) else _AGAIN
        return RunVerdict("stopped", f"{_stopper(facts)}; what it was doing at the nodes was ended.", again)
    failed = [s for s in facts.steps if s.state == "failed" and not s.task.startswith("rules.")]
    names = {s.task for s in failed}
    if "admit" in names or facts.admitted is False:
        why = facts.reason or "the broker did not admit it."
        if facts.airflow == "success":
            why = "it was marked as a success by hand before the broker was asked."
        return RunVerdict(
            "refused",
            f"Nothing was started: {why}",
            "Apply for access or correct the start, then start again.",
            fault="access",
        )
    if facts.failing is not None:
        return RunVerdict(
            "failed", _node_failed(facts.failing), "See the jobs for details, then run it again.", fault="workflow"
        )
    if "release" in names and "analyse" not in names:
        where = _names([s.node for s in failed if s.task == "release" and s.node]) or "a node"
        return RunVerdict(
            "refused",
            f"Nothing was gathered: {facts.reason or f'{where} refused to release what the workflow asked for.'}",
            "Ask the people of that node, or change the parameters and run it again.",
            fault="access",
        )
    if facts.outcome == "cancelled" and not names & {"analyse", "gather"}:
        return RunVerdict("stopped", "Somebody stopped the run by hand in Airflow.", _AGAIN)
    if "analyse" in names or "gather" in names:
        fault: Fault = "workflow" if "analyse" in names else "system"
        return RunVerdict("failed", _step_failed(failed, facts), "See the jobs, then run it again.", fault=fault)
    if facts.airflow == "success":
        return RunVerdict(
            "failed",
            "Somebody marked the run as a success by hand, but its work had not ended well.",
            _AGAIN,
            fault="system",
        )
    if names == {"close"}:
        return RunVerdict(
            "failed", f"The run was not ended in order: {facts.reason or 'a node was away.'}", _OPERATOR, fault="system"
        )
    return RunVerdict("stopped", "Somebody marked the run as failed by hand in Airflow.", _AGAIN)


def _stopper(facts: RunFacts) -> str:
    if facts.stopped_by == IN_AIRFLOW:
        return "Somebody stopped the run in Airflow"
    committee, _, reason = facts.stopped_by[:600].partition(": ")
    if not committee:
        return "You stopped the run"
    return f"The access committee {committee} stopped the run ({reason.rstrip('.') or 'without a reason'})"


_AGAIN = "Run it again when you like."
_OPERATOR = "Tell the operator of the coordinator."
_STEPS = {
    "admit": "The admission failed",
    "analyse": "The analysis failed",
    "release": "The release failed",
    "gather": "The nodes' releases could not be put together",
    "close": "The end of the run failed",
}


def _step_failed(failed: Sequence[StepFacts], facts: RunFacts) -> str:
    first = min(failed, key=lambda s: list(_STEPS).index(s.task) if s.task in _STEPS else len(_STEPS))
    where = f" at {first.node}" if first.node else ""
    what = _STEPS.get(first.task, f"The step {first.task} failed")
    return f"{what}{where}{': ' + facts.reason if facts.reason else '.'}"


def _node_failed(failing: Failing) -> str:
    reason = failing.reason.strip() or "it did not say why"
    dataset = f" (dataset {failing.dataset})" if failing.dataset else ""
    return f"{failing.node} failed{dataset}: {reason if reason.endswith(('.', '!', '?')) else reason + '.'}"


def _names(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    shown = [*unique[:5], f"{len(unique) - 5} more"] if len(unique) > 6 else unique
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class Standing(BaseModel):
    """`judge`'s verdict of a run with what a list of runs shows beside it: what Airflow's api-server answers at
    `/gdi/data/standing/{dag}/{run}`. `known`: whether Airflow has the run at all.
    """

    model_config = ConfigDict(extra="ignore")
    known: bool = True
    standing: RunStanding
    sentence: str
    next_step: str = ""
    waiting_for: list[str] = Field(default_factory=list)
    fault: Fault = ""
    attempt: int = 0
    admitted_at: float | None = None
    ended_at: float | None = None
    nodes: list[NodeProgress] = Field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.standing in ENDED
