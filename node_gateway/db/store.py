"""The gateway's state: one SQLite file for one process (WAL: killed at any instant, it is whole at the next start), or
one PostgreSQL database that several share. A change of a table needs a revision in node_gateway/db/migrations.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gdi.kit import migrations
from gdi.kit.database import Database, DatabaseAwayError, is_away
from gdi.kit.used_ids import UsedIds
from node_gateway.db.group_commit import GroupCommit, ReadThread, Work
from node_gateway.db.migrations import first

T = TypeVar("T")

metadata = sa.MetaData()
# Characters (ASCII) of a cell's key and numbers: together they fit into a row of PostgreSQL's index (2,704 bytes).
MAX_KEY, MAX_NUMBERS = 2100, 480

fences = sa.Table(
    "fences",
    metadata,
    sa.Column("run", sa.String(40), primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),  # highest seen
    sa.Column("generation", sa.Integer, nullable=False),  # highest seen in a token that may send tasks
    sa.Column("closed_attempt", sa.Integer, nullable=False),  # this attempt and those before it are over here
)

emptied = sa.Table(  # runs whose workspace was emptied after their retention, up to this attempt
    "emptied",
    metadata,
    sa.Column("run", sa.String(40), primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
)

tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("run", sa.String(40), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("user", sa.String(255), nullable=False),
    sa.Column("job", sa.String(100), nullable=False),
    sa.Column("try", sa.String(20), nullable=False),
    sa.Column(
        "intent", sa.String(40), nullable=False, unique=True
    ),  # a random tag on the task: finds it again after a crash between create and record
    sa.Column("phase", sa.String(10), nullable=False),  # creating | created | refused
    sa.Column("tes_id", sa.String(200), unique=True),
    sa.Column("ended", sa.String(20)),  # the final state, once seen
    sa.Column("capability", sa.String(64), unique=True),  # SHA-256 (hex) of the secret; NULL when it has ended
    sa.Column("key_fingerprint", sa.String(64), nullable=False),
    sa.Column("inputs", sa.JSON, nullable=False),  # [[dataset, path], …]
    sa.Column("outputs", sa.JSON, nullable=False),  # workspace paths; of folders with a / at their end
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("bytes", sa.Integer, nullable=False, server_default="0"),  # as it was sent
    sa.Index("tasks_job", "run", "job", "try"),
)

denials = sa.Table(
    "denials",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("task", sa.Integer, sa.ForeignKey("tasks.number"), nullable=False, index=True),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("error_class", sa.String(60), nullable=False),
    sa.Column("dataset", sa.String(128), nullable=False),
    sa.Column("reason", sa.String(600), nullable=False),
)

releases = sa.Table(
    "releases",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("run", sa.String(40), nullable=False),
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("source_sha256", sa.String(64), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),  # published | awaiting-review | refused
    sa.Column("key", sa.String(1024), nullable=False),  # in the release bucket
    sa.Column("answer", sa.JSON, nullable=False),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("reviewer", sa.String(255)),
    sa.UniqueConstraint("run", "name", "source_sha256"),
)

reviews = sa.Table(  # of releases that a person had to look at: who asked, and what was decided
    "reviews",
    metadata,
    sa.Column("release", sa.Integer, sa.ForeignKey("releases.number"), primary_key=True, autoincrement=False),
    sa.Column("asked", sa.JSON, nullable=False),
    sa.Column("decided_at", sa.Float),
    sa.Column("reason", sa.String(500), nullable=False),
)

dataset_sets = sa.Table(
    "dataset_sets",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("names", sa.Text, nullable=False, unique=True),  # canonical JSON of the sorted ids
)

epochs = sa.Table(  # who is behind a dataset, frozen by the operator
    "epochs",
    metadata,
    sa.Column("dataset", sa.String(128), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("people", sa.Integer, nullable=False),
    sa.Column("opened_at", sa.Float, nullable=False),
    sa.Column("named", sa.JSON),  # {"splits": {column: [levels]}, "variables": [names], "tables": [names]}
)

epoch_people = sa.Table(
    "epoch_people",
    metadata,
    sa.Column("dataset", sa.String(128), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("person", sa.String(64), primary_key=True),  # HMAC-SHA-256 (hex) of the id, under the node's key
)

epoch_parts = sa.Table(  # people of an epoch by a level of a split, or who are complete for a variable set or table
    "epoch_parts",
    metadata,
    sa.Column("dataset", sa.String(128), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("part", sa.String(200), primary_key=True),  # as the ledger calls it: sex=female, variables:growth
    sa.Column("person", sa.String(64), primary_key=True),
)

epoch_outside = sa.Table(  # who left a dataset with people who withdrew, and stays out
    "epoch_outside",
    metadata,
    sa.Column("dataset", sa.String(128), primary_key=True),
    sa.Column("person", sa.String(64), primary_key=True),
)

file_contents = sa.Table(  # of a dataset's files when they were read, by the epoch that was its newest then (0: none)
    "file_contents",
    metadata,
    sa.Column("dataset", sa.String(128), primary_key=True),
    sa.Column("path", sa.String(64), primary_key=True),  # its SHA-256 (hex)
    sa.Column("content", sa.String(64), primary_key=True),  # its checksum (hex, the first 64 letters), or its size
    sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
)

rounds = sa.Table(  # of an order `round`: what this node was asked, and what it answered
    "rounds",
    metadata,
    sa.Column("run", sa.String(40), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("question", sa.Text, nullable=False),  # `gdi.contracts.rounds.body_of`
    sa.Column("answer", sa.Text, nullable=False),  # `RoundAnswer` as JSON; empty before
)

budget_uses = sa.Table(  # frequencies of `sensitive` people that left, or that a release holds which waits
    "budget_uses",
    metadata,
    sa.Column("release", sa.Integer, sa.ForeignKey("releases.number"), primary_key=True, autoincrement=False),
    sa.Column("cohort", sa.Integer, sa.ForeignKey("dataset_sets.id"), nullable=False, index=True),
    sa.Column("statistics", sa.Integer, nullable=False),  # numbers that had not left before
    sa.Column("people", sa.Integer, nullable=False),  # of the cohort
)

retractions = sa.Table(  # releases whose numbers are wrong for their readers; the check still knows them
    "retractions",
    metadata,
    sa.Column("release", sa.Integer, sa.ForeignKey("releases.number"), primary_key=True, autoincrement=False),
    sa.Column("reason", sa.String(500), nullable=False),
    sa.Column("time", sa.Float, nullable=False),
)

ledger_cells = sa.Table(  # what left, by what it is about, the words it is said in (a kind's name) and their own key
    "ledger_cells",
    metadata,
    sa.Column("topic", sa.String(24), primary_key=True),  # gdi.releases.disclosure.vocabulary
    sa.Column("kind", sa.String(63), primary_key=True),
    sa.Column("key", sa.String(MAX_KEY), primary_key=True),
    sa.Column("datasets", sa.Integer, sa.ForeignKey("dataset_sets.id"), primary_key=True, autoincrement=False),
    sa.Column("numbers", sa.String(MAX_NUMBERS), primary_key=True),  # the cell's, with commas between them
    sa.Column("release", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)

orders = sa.Table(  # of the broker's, as this node took them: the truth about them
    "orders",
    metadata,
    sa.Column("run", sa.String(40), primary_key=True),
    sa.Column("kind", sa.String(10), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("nonce", sa.String(32), nullable=False, unique=True),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("broker_generation", sa.Integer, nullable=False),
    sa.Column("user", sa.String(255), nullable=False),
    sa.Column("workflow", sa.String(63), nullable=False),
    sa.Column("digest", sa.String(71), nullable=False),
    sa.Column("datasets", sa.JSON, nullable=False),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("deadline", sa.Float, nullable=False),
    sa.Column("access_ends_at", sa.Float, nullable=False),
    sa.Column("approved", sa.Boolean, nullable=False),
    sa.Column("rules", sa.JSON, nullable=False),
    sa.Column("pod", sa.String(63)),
    sa.Column("pod_uid", sa.String(100)),
    sa.Column("pod_generation", sa.Integer, nullable=False),
    sa.Column("cancelling", sa.Text, nullable=False),
    sa.Column("reason", sa.String(255), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("dataset", sa.String(128)),
    sa.Column("released", sa.JSON, nullable=False),
    sa.Column("wanted", sa.JSON, nullable=False),
    sa.Column("reported", sa.Boolean, nullable=False),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("line", sa.Text, nullable=False),  # canonical JSON of the entry
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),  # SHA-256 over previous + "\n" + line
)


stops = sa.Table(  # by the node's access committee: of a run, or of a person
    "stops",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("run", sa.String(40)),
    sa.Column("person", sa.String(255)),
    sa.Column("reason", sa.String(500), nullable=False),
    sa.Column("by", sa.String(255), nullable=False),
    sa.Column("made_at", sa.Float, nullable=False),
    sa.Column("lifted_by", sa.String(255)),
    sa.Column("lifted_at", sa.Float),
)

used_ids = UsedIds.table(metadata)  # of reviewers' sessions that were ended before their time, and of preflights


def append_only(connection: sa.Connection) -> None:
    """The audit can be added to and nothing else: triggers, made where they are missing."""
    text = "the audit is append-only"
    if connection.dialect.name == "sqlite":
        for verb in ("update", "delete"):
            connection.exec_driver_sql(
                f"CREATE TRIGGER IF NOT EXISTS audit_no_{verb} BEFORE {verb} ON audit BEGIN"
                f" SELECT RAISE(ABORT, '{text}'); END"
            )
        return
    there = "SELECT 1 FROM pg_trigger WHERE tgname = 'audit_append_only' AND tgrelid = 'audit'::regclass"
    if connection.exec_driver_sql(there).first() is None:
        connection.exec_driver_sql(
            "CREATE OR REPLACE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION '{text}'; END $$"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
            " FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()"
        )


SCHEMA = migrations.Schema(
    "node-gateway", Path(first.__file__).parent, metadata, first.metadata, first.LATER, append_only
)


class GatewayDatabase(Database):
    """On SQLite, one process at a time and one writer in it: writers wait for each other here, so it is never busy."""

    owner = "gateway"
    pool: ClassVar[dict[str, Any]] = {"pool_size": 8, "max_overflow": 8, "pool_timeout": 30}

    def __init__(self, engine: AsyncEngine, lock: int | None = None) -> None:
        super().__init__(engine)
        self._lock = lock
        self._writer = asyncio.Lock()
        self._group: GroupCommit | None = None
        self._reads: ReadThread | None = None

    @classmethod
    def open(cls, url: str, password: str | None = None) -> GatewayDatabase:
        """An SQLite file is made (mode 0600). RuntimeError where another gateway holds it."""
        parsed = sa.make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return cls(cls.make_engine(url, password))
        path = Path(parsed.database or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # dies with the process, however it dies
        except OSError:
            os.close(lock)
            raise RuntimeError(
                f"another gateway uses {path}: stop it first, or give this one its own DATABASE_URL"
            ) from None
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        return cls(cls.make_engine(url), lock)

    async def create(self) -> migrations.MigrationResult:
        """Makes the schema, or brings it to the newest revision. SchemaError where that cannot be."""
        return await migrations.upgrade(self, SCHEMA)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        if self.shared:
            async with super().write() as connection:
                yield connection
        else:
            async with self._writer, super().write() as connection:
                yield connection

    async def transact(self, work: Work[T]) -> T:
        """What `work` gave, in a transaction that is committed when this returns: of one process, together with what
        others want at the same time. For what happens at every task: elsewhere `write`. DatabaseAwayError.
        """
        if self.shared:
            async with self.write() as connection:
                return await connection.run_sync(work)
        if self._group is None:
            self._group = GroupCommit(self.engine.url, self._writer, self.cache_kib)
        with self._away():
            return await self._group.run(work)

    async def look(self, work: Work[T]) -> T:
        """What `work` gave, which only reads: for what is asked at every list; elsewhere `read`. DatabaseAwayError."""
        if self.shared:
            async with self.read() as connection:
                return await connection.run_sync(work)
        if self._reads is None:
            self._reads = ReadThread(self.engine.url, self.cache_kib)
        with self._away():
            return await self._reads.run(work)

    @contextmanager
    def _away(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if is_away(error):
                raise DatabaseAwayError(self.owner, error) from None
            raise

    async def make_durable(self) -> None:
        """What was committed is on the disk when this returns, power cut or not. On SQLite a commit alone outlives
        only the process; PostgreSQL commits to the disk (`synchronous_commit`).
        """
        if self.shared:
            return
        async with self._writer, self.engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            await driver.execute("PRAGMA wal_checkpoint(FULL)")  # not in a transaction

    async def close(self) -> None:
        if self._group is not None:
            await self._group.close()
        if self._reads is not None:
            self._reads.close()
        await super().close()
        if self._lock is not None:
            os.close(self._lock)
