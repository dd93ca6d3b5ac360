"""Workloads: which pod acts for a run at a node. Registered before it is made, its uid pinned before its first token; a
newer one fences those before.
"""

from __future__ import annotations

import hmac

import sqlalchemy as sa
from sqlalchemy import RowMapping

from gdi.contracts.runs import Workload, WorkloadRequest
from gdi.kit.problem import ProblemError
from token_broker.audit import Audit
from token_broker.authentication.callers import PodCaller
from token_broker.db.store import BrokerDatabase, runs, workloads
from token_broker.runs.runs import Runs, need_open

MAX_PODS = 10_000  # for each run


class Workloads:
    def __init__(self, store: BrokerDatabase, runs: Runs, audit: Audit) -> None:
        self._store, self._runs, self._audit = store, runs, audit

    async def put(self, run: str, pod: str, request: WorkloadRequest) -> Workload:
        """Registers (no uid) or pins (uid). Repeating either is no error; another uid for a pinned pod is."""
        row = await self._runs.known(run)
        need_open(row, request.attempt)
        if request.node not in {p["node"] for p in row["plan"]}:
            raise ProblemError(
                403,
                "node-not-in-plan",
                f"Node {request.node} is no part of run {run}.",
                action="Register pods for the nodes of the plan.",
            )
        if pod.startswith("airflow"):
            raise ProblemError(
                422,
                "bad-pod-name",
                "A pod's name must not start with 'airflow': events of that source are Airflow's own.",
                action="Rename it.",
            )
        async with self._store.write() as c:
            await c.execute(
                sa.select(runs.c.id).where(runs.c.id == run).with_for_update()
            )  # one at a time for each run: generations are never given twice
            mine = sa.and_(workloads.c.run_id == run, workloads.c.pod == pod)
            known = (await c.execute(sa.select(workloads).where(mine))).mappings().one_or_none()
            newest, count = (
                await c.execute(
                    sa.select(
                        sa.func.max(workloads.c.generation).filter(workloads.c.node == request.node), sa.func.count()
                    ).where(workloads.c.run_id == run)
                )
            ).one()
            if known is None and request.uid is not None:
                raise ProblemError(
                    409,
                    "workload-unknown",
                    f"Pod {pod} was not registered before it was made.",
                    action="Register it first, without uid.",
                )
            if known is None or (known["attempt"] < request.attempt and request.uid is None):
                if count >= MAX_PODS:
                    raise ProblemError(
                        409, "too-many-workloads", f"Run {run} has had {MAX_PODS} pods.", action="Start a new run."
                    )
                fresh = {"node": request.node, "attempt": request.attempt, "uid": None, "generation": (newest or 0) + 1}
                if known is None:
                    await c.execute(workloads.insert().values(run_id=run, pod=pod, **fresh))
                else:
                    await c.execute(workloads.update().where(mine).values(**fresh))
            else:
                self._check(known, request, newest)
                if request.uid is not None and known["uid"] is None:
                    await c.execute(workloads.update().where(mine, workloads.c.uid.is_(None)).values(uid=request.uid))
            after = (await c.execute(sa.select(workloads).where(mine))).mappings().one()
        await self._audit.record(
            "airflow",
            "workload.pin" if request.uid else "workload.register",
            owner=row["owner"],
            run=run,
            node=request.node,
            reason=pod,
        )
        return Workload(
            pod=pod, node=after["node"], attempt=after["attempt"], uid=after["uid"], generation=after["generation"]
        )

    @staticmethod
    def _check(known: RowMapping, request: WorkloadRequest, newest: int) -> None:
        if known["attempt"] != request.attempt or known["node"] != request.node:
            raise ProblemError(
                409,
                "workload-mismatch",
                f"Pod {known['pod']} is registered for node {known['node']}, attempt {known['attempt']}.",
                action="Use another name.",
            )
        if known["generation"] != newest:
            raise ProblemError(
                409,
                "workload-fenced",
                f"Pod {known['pod']} was replaced by a newer one at its node.",
                action="Register a new pod under another name.",
            )
        if request.uid is not None and known["uid"] not in (None, request.uid):
            raise ProblemError(
                409,
                "uid-pinned",
                f"Pod {known['pod']} is pinned to another uid.",
                action="Register a new pod under another name.",
            )

    async def acting(self, run: RowMapping, pod: PodCaller) -> RowMapping:
        """The workload's row if this pod may act for the run now: registered, pinned to this uid, of this attempt, the
        newest at its node. 403 otherwise.
        """
        async with self._store.read() as c:
            row = (
                (
                    await c.execute(
                        sa.select(workloads).where(workloads.c.run_id == run["id"], workloads.c.pod == pod.pod)
                    )
                )
                .mappings()
                .one_or_none()
            )
            newest = 0
            if row is not None:
                mine = sa.and_(workloads.c.run_id == run["id"], workloads.c.node == row["node"])
                newest = await c.scalar(sa.select(sa.func.max(workloads.c.generation)).where(mine)) or 0
        if row is None:
            raise await self._refuse(
                run, pod, "workload-unknown", f"Pod {pod.pod} is not registered for run {run['id']}."
            )
        if pod.nodes and row["node"] not in pod.nodes:
            raise await self._refuse(
                run, pod, "wrong-issuer", f"Pod {pod.pod} is of a cluster that may not speak for node {row['node']}."
            )
        if row["uid"] is None:
            raise await self._refuse(
                run,
                pod,
                "workload-unpinned",
                f"The uid of pod {pod.pod} is not pinned yet.",
                "Try again when Airflow has pinned it.",
            )
        if not hmac.compare_digest(str(row["uid"]).encode(), pod.uid.encode("utf-8", "replace")):
            raise await self._refuse(
                run, pod, "wrong-uid", f"Another pod named {pod.pod} is registered for run {run['id']}."
            )
        if row["attempt"] != run["attempt"] or row["generation"] != newest:
            raise await self._refuse(
                run,
                pod,
                "workload-fenced",
                f"Pod {pod.pod} was replaced: a newer pod acts for this run at {row['node']}.",
            )
        return row

    async def _refuse(
        self,
        run: RowMapping,
        pod: PodCaller,
        slug: str,
        detail: str,
        action: str = "Stop: this pod has no part in the run.",
    ) -> ProblemError:
        await self._audit.record(
            pod.name, "workload.act", allowed=False, owner=run["owner"], run=run["id"], reason=slug
        )
        return ProblemError(403, slug, detail, action=action)
