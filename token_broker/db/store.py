"""The broker's SQL: grants (nothing secret), tickets (hashes), runs, workloads, events, audit. SQLite for one machine,
PostgreSQL for replicas.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gdi.kit.problem import ProblemError

log = logging.getLogger(__name__)
AWAY_SQLITE = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")
AWAY_SQLSTATE = ("08", "53", "57P")  # connection lost, out of resources, shutting down
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

jobs = sa.Table(  # the last state of each job, so that progress costs no walk over the events
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
)

job_details = sa.Table(  # what the list of jobs shows of each; `number`: of the last event that told of it
    "job_details",
    meta,
    sa.Column("run_id", sa.String(22), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("node", sa.String(31), primary_key=True),
    sa.Column("job", sa.String(255), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("wildcards", sa.Text),
    sa.Column("task", sa.String(255)),
    sa.Column("tries", sa.Integer),
    sa.Column("cpu_seconds", sa.Float),
    sa.Column("memory_bytes", sa.BigInteger),
    sa.Column("submitted_at", sa.Float),
    sa.Column("message", sa.Text),
    sa.Column("error_class", sa.String(61)),
    sa.Column("exit_code", sa.Integer),
    sa.Column("line", sa.Integer),
    sa.Column("dataset", sa.String(128)),
    sa.Index("job_details_news", "run_id", "attempt", "number"),
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
    sa.Column("dataset", sa.String(128)),
    sa.Column("node", sa.String(31)),
    sa.Column("allowed", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("visa", sa.JSON),
)


class DatabaseAwayError(ProblemError):
    """The database cannot be asked: whoever asked may send the same request again (every call of the API may be
    repeated).
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(
            503,
            "database-unavailable",
            "The broker's database is away, so the request was not completed.",
            action=(
                "Send it again in some seconds; if that stays, tell the operator: /readyz says what the broker lacks."
            ),
        )
        log.warning("the database is away: %s", type(getattr(error, "orig", None) or error).__name__)


def _away(error: DBAPIError) -> bool:
    """Whether the database, not the statement, is at fault."""
    if error.connection_invalidated:
        return True
    return str(getattr(error.orig, "sqlite_errorname", "")).startswith(AWAY_SQLITE) or str(
        getattr(error.orig, "sqlstate", "")
    ).startswith(AWAY_SQLSTATE)


class BrokerDatabase:
    """Connections by purpose: `read()`, and `write()`, one transaction that on SQLite takes the write lock at once (no
    upgrade dead-lock).
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    @classmethod
    def open(cls, url: str, password: str | None = None) -> BrokerDatabase:
        """`password` (from a file) is put into the URL in memory only; SQLAlchemy hides it in every repr."""
        parsed = sa.make_url(url)
        if password is not None:
            parsed = parsed.set(password=password)
        if parsed.get_backend_name() != "sqlite":
            return cls(create_async_engine(parsed, pool_pre_ping=True, hide_parameters=True))
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(parsed, hide_parameters=True)

        @sa.event.listens_for(engine.sync_engine, "connect")
        def _on_connect(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # SQLAlchemy's recipe: we say BEGIN ourselves
            cursor = connection.cursor()
            for pragma in ("busy_timeout=15000", "journal_mode=WAL", "synchronous=NORMAL"):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        @sa.event.listens_for(engine.sync_engine, "begin")
        def _on_begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql(
                "BEGIN IMMEDIATE" if connection.get_execution_options().get("write") else "BEGIN"
            )

        return cls(engine)

    async def create(self) -> None:
        """Makes what is missing of the schema. Two replicas may start at once: the loser of the race looks again."""
        for attempt in (1, 2, 3):
            try:
                async with self.write() as c:
                    await c.run_sync(meta.create_all)
                return
            except DBAPIError:
                if attempt == 3:
                    raise

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """DatabaseAwayError where there is none to be had, or it is lost on the way; so with `write`."""
        try:
            connection = await self.engine.connect()
        except Exception as error:  # SQLAlchemy's, the driver's or the operating system's
            raise DatabaseAwayError(error) from None
        try:
            yield connection
        except DBAPIError as error:
            if _away(error):
                raise DatabaseAwayError(error) from None
            raise
        finally:
            await connection.close()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        async with self.read() as connection:
            await connection.execution_options(write=True)
            async with connection.begin():
                yield connection

    async def close(self) -> None:
        await self.engine.dispose()


async def upsert(
    c: AsyncConnection,
    table: sa.Table,
    rows: Sequence[dict[str, Any]],
    *,
    replace: Sequence[str] = (),
    keep: Sequence[str] = (),
    newer: Sequence[str] = (),
    renew: tuple[str, sa.ColumnElement[bool]] | None = None,
) -> None:
    """Inserts rows (all with the same columns, no key twice) or updates those there: `replace` takes the new value,
    `keep` the old one where there is one,

    `newer` the new one where there is one, `renew` (a column, a condition on the row there) the new one where that
    holds. An empty text counts as none.
    """
    if not rows:
        return
    insert = postgresql.insert if c.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table)
    update: dict[str, Any] = {name: statement.excluded[name] for name in replace}
    for name in (*keep, *newer):
        old, new = table.c[name], statement.excluded[name]
        first, second = (old, new) if name in keep else (new, old)
        text = isinstance(table.c[name].type, sa.String)
        update[name] = sa.func.coalesce(sa.func.nullif(first, "") if text else first, second)
    if renew is not None:
        update[renew[0]] = sa.case((renew[1], statement.excluded[renew[0]]), else_=update[renew[0]])
    await c.execute(
        statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=update), list(rows)
    )
