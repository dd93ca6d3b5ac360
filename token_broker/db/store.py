"""The broker's SQL: grants (nothing secret), tickets (hashes), runs, workloads, events, audit. SQLite for one machine,
PostgreSQL for replicas. A change of a table needs a revision in token_broker/db/migrations.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from gdi.kit import migrations
from gdi.kit.database import Database, DatabaseAwayError
from gdi.kit.used_ids import UsedIds
from token_broker.db.columns import job_columns
from token_broker.db.migrations import first

__all__ = ["BrokerDatabase", "DatabaseAwayError"]

meta = sa.MetaData()

grants = sa.Table(
    "grants",
    meta,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("owner", sa.String(255), nullable=False, index=True),
    sa.Column("workflows", sa.JSON, nullable=False),
    sa.Column("datasets", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("mode", sa.String(10), nullable=False),
    sa.Column("label", sa.String(255), nullable=False, default=""),
    sa.Column("state", sa.String(10), nullable=False, index=True),  # pending | active | used | revoked | expired | dead
    sa.Column("detail", sa.Text, nullable=False, default=""),
    sa.Column("refreshes", sa.Integer, nullable=False, default=0),
    sa.Column("used_run", sa.String(22)),
    sa.Column("refresh_due", sa.Float, nullable=False),  # when the background refreshes it at the latest
    sa.Column("revoke_due", sa.Float, index=True),  # set while the provider still has to hear of the revocation
    sa.Column("revoke_tries", sa.Integer, nullable=False, default=0),
)

tickets = sa.Table(
    "tickets",
    meta,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("grant_id", sa.String(40), nullable=False, index=True),
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("workflow", sa.String(63), nullable=False),
    sa.Column("parameters_hash", sa.String(64), nullable=False),
    sa.Column("dag_run_id", sa.String(250)),
    sa.Column("expires_at", sa.Float, nullable=False, index=True),
    sa.Column("used_run", sa.String(22)),
    sa.Column("used_at", sa.Float),
)

schedules = sa.Table(
    "schedules",
    meta,
    sa.Column("grant_id", sa.String(40), primary_key=True),
    sa.Column("workflow", sa.String(63), nullable=False),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("cron", sa.String(200), nullable=False),
    sa.Column("timezone", sa.String(64), nullable=False),
    sa.Column("catch_up", sa.String(10), nullable=False),
    sa.Column("state", sa.String(10), nullable=False),  # active | stopped
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("next_due", sa.Float, index=True),
    sa.Column("last_due", sa.Float),
    sa.Column("digest", sa.String(71)),  # the one version that it starts; NULL until the first start
)

starts = sa.Table(  # of schedules: one row for each start that fell due and is to be made
    "starts",
    meta,
    sa.Column("grant_id", sa.String(40), primary_key=True),
    sa.Column("due", sa.Float, primary_key=True),
    sa.Column("dag_run_id", sa.String(250), nullable=False),
    sa.Column("state", sa.String(10), nullable=False, index=True),  # due | started | refused | failed
    sa.Column("leased_until", sa.Float, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)

runs = sa.Table(
    "runs",
    meta,
    sa.Column("id", sa.String(22), primary_key=True),
    sa.Column("dag_id", sa.String(250), nullable=False),
    sa.Column("dag_run_id", sa.String(250), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("outcome", sa.String(10), nullable=False, default=""),
    sa.Column("workflow", sa.String(63), nullable=False),
    sa.Column("digest", sa.String(71), nullable=False),
    sa.Column("owner", sa.String(255), nullable=False, index=True),
    sa.Column("grant_id", sa.String(40), nullable=False, index=True),
    sa.Column("parameters_hash", sa.String(64), nullable=False),
    sa.Column("datasets", sa.JSON, nullable=False),
    sa.Column("plan", sa.JSON, nullable=False),
    sa.Column("failing", sa.JSON),
    sa.Column("opened_at", sa.Float, nullable=False),
    sa.Column("closed_at", sa.Float),
    sa.Column("event_count", sa.Integer, nullable=False, default=0),
    sa.Column("event_bytes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("needed", sa.JSON),  # which nodes must answer: gdi.contracts.needed
    sa.Column("trace", sa.String(55)),  # the traceparent with which Airflow had the attempt admitted
    sa.Column("released", sa.JSON),  # what left each node, as Airflow told at the end: gdi.contracts.committees
)

workloads = sa.Table(
    "workloads",
    meta,
    sa.Column("run_id", sa.String(22), primary_key=True),
    sa.Column("pod", sa.String(63), primary_key=True),
    sa.Column("node", sa.String(31), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("uid", sa.String(100)),
    sa.Column("generation", sa.Integer, nullable=False),
)

events = sa.Table(
    "events",
    meta,
    sa.Column("run_id", sa.String(22), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("source", sa.String(63), nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("node", sa.String(31)),
    sa.Column("body", sa.Text, nullable=False),
    sa.UniqueConstraint("run_id", "attempt", "source", "seq"),
)

jobs = sa.Table(  # the last state of each job, so that neither progress nor the list of jobs walks over the events
    "jobs",
    meta,
    sa.Column("run_id", sa.String(22), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("node", sa.String(31), primary_key=True),
    sa.Column("job", sa.String(255), primary_key=True),
    sa.Column("rule", sa.String(255), nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("number", sa.Integer, nullable=False, server_default="0"),  # of the last event that told of it
    sa.Column("submitted_at", sa.Float),
    *job_columns(),
    sa.Index("jobs_news", "run_id", "attempt", "number"),
)

rules = sa.Table(
    "rules",
    meta,
    sa.Column("run_id", sa.String(22), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("node", sa.String(31), primary_key=True),
    sa.Column("rule", sa.String(255), primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
)

node_states = sa.Table(
    "node_states",
    meta,
    sa.Column("run_id", sa.String(22), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("node", sa.String(31), primary_key=True),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("done", sa.Integer, nullable=False, default=0),
    sa.Column("total", sa.Integer, nullable=False, default=0),
    sa.Column("message", sa.Text, nullable=False, default=""),
    sa.Column("dataset", sa.String(128)),
)

audit = sa.Table(
    "audit",
    meta,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("actor", sa.String(255), nullable=False),
    sa.Column("action", sa.String(255), nullable=False),
    sa.Column("owner", sa.String(255), index=True),
    sa.Column("run", sa.String(22), index=True),
    sa.Column("grant_id", sa.String(40)),
    sa.Column("dataset", sa.String(128), index=True),
    sa.Column("node", sa.String(31)),
    sa.Column("allowed", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("visa", sa.JSON),
)

nodes = sa.Table(  # what was last heard of a node; `news` counts what its agent has not been told of yet
    "nodes",
    meta,
    sa.Column("node", sa.String(31), primary_key=True),
    sa.Column("news", sa.Integer, nullable=False),
    sa.Column("seen_at", sa.Float),
    sa.Column("status", sa.JSON),
)

orders = sa.Table(
    "orders",
    meta,
    sa.Column("run_id", sa.String(22), primary_key=True),
    sa.Column("node", sa.String(31), primary_key=True),
    sa.Column("kind", sa.String(10), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("body", sa.String(64), nullable=False),  # SHA-256 of what was asked
    sa.Column("nonce", sa.String(32), nullable=False),
    sa.Column("deadline", sa.Float, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("lease_until", sa.Float, nullable=False),
    sa.Column("cancelling", sa.Text, nullable=False),
    sa.Column("reason", sa.String(255), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("names", sa.JSON, nullable=False),  # of the releases that are asked for
    sa.Column("released", sa.JSON, nullable=False),
    sa.Column("token", sa.Text, nullable=False),  # the signed order, with its visas; empty once it is over
    sa.Column("news", sa.Integer, nullable=False),  # of the node, when it last had to be told
    sa.Column("changes", sa.Integer, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
    sa.Column("late_until", sa.Float, nullable=False, server_default="0"),  # it outlives its run's close until then
    sa.Index("orders_news", "node", "news"),
    sa.Index("orders_late", "late_until"),
    sa.Index("orders_deadline", "state", "deadline"),
)

rounds = sa.Table(  # of an order `round`: two of a node, the last answer and the question that waits
    "rounds",
    meta,
    sa.Column("run_id", sa.String(22), primary_key=True),
    sa.Column("node", sa.String(31), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("question", sa.Text, nullable=False),  # as `gdi.contracts.rounds.body_of` has it
    sa.Column("answer", sa.Text, nullable=False),  # a `RoundAnswer`; empty while there is none
    sa.Column("answer_sha256", sa.String(64), nullable=False),  # of its content
    sa.Column("changed_at", sa.Float, nullable=False, index=True),
)

workflows = sa.Table(  # the files of workflows, as the bytes that their digest is of
    "workflows",
    meta,
    sa.Column("digest", sa.String(71), primary_key=True),
    sa.Column("name", sa.String(63), nullable=False, index=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("approvals", sa.JSON, nullable=False),
    sa.Column("used_at", sa.Float, nullable=False, index=True),
)

preflights = sa.Table(
    "preflights",
    meta,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("node", sa.String(31), primary_key=True),
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("question", sa.Text, nullable=False),
    sa.Column("asked_at", sa.Float, nullable=False, index=True),
    sa.Column("news", sa.Integer, nullable=False),
    sa.Column("reply", sa.JSON),
)

stops = sa.Table(  # by access committees: of a run, or of a person for the committee's datasets
    "stops",
    meta,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("committee", sa.String(63), nullable=False),
    sa.Column("run", sa.String(22), index=True),
    sa.Column("person", sa.String(255), index=True),
    sa.Column("reason", sa.String(500), nullable=False),
    sa.Column("by", sa.String(255), nullable=False),
    sa.Column("made_at", sa.Float, nullable=False),
    sa.Column("lifted_by", sa.String(255)),
    sa.Column("lifted_at", sa.Float),
)

notice_choices = sa.Table(  # who wants to be told of what, and where
    "notice_choices",
    meta,
    sa.Column("owner", sa.String(255), primary_key=True),
    sa.Column("kinds", sa.JSON, nullable=False),
    sa.Column("address", sa.String(320), nullable=False),
    sa.Column("webhook", sa.String(500), nullable=False),
    sa.Column("problem", sa.String(500), nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
)

notices = sa.Table(
    "notices",
    meta,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("owner", sa.String(255), nullable=False, index=True),
    sa.Column("kind", sa.String(30), nullable=False),
    sa.Column("subject", sa.String(40), nullable=False),  # a run or a grant
    sa.Column("workflow", sa.String(63), nullable=False),
    sa.Column("way", sa.String(10), nullable=False),  # mail | webhook
    sa.Column("state", sa.String(10), nullable=False),  # waiting | sent | failed | dropped
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("made_at", sa.Float, nullable=False),
    sa.Column("next_at", sa.Float, nullable=False),
    sa.Index("notices_next", "state", "next_at"),
)

used_ids = UsedIds.table(meta)  # assertions of gateways, sessions that were ended before their time

SCHEMA = migrations.Schema("token-broker", Path(first.__file__).parent, meta, first.meta, first.LATER)


class BrokerDatabase(Database):
    owner = "broker"
    cache_kib = 512  # events are read once, page by page

    async def create(self) -> migrations.MigrationResult:
        """Makes the schema, or brings it to the newest revision. SchemaError where that cannot be."""
        return await migrations.upgrade(self, SCHEMA)
