"""The gateway's state in one SQLite file (WAL): killed at any instant, it is whole at the next start. One process at a
time, one writer in it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

metadata = sa.MetaData()

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
    sa.Column("outputs", sa.JSON, nullable=False),  # workspace paths of single files
    sa.Column("created_at", sa.Float, nullable=False),
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

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("datasets", sa.Integer, sa.ForeignKey("dataset_sets.id"), primary_key=True, autoincrement=False),
    sa.Column("chrom", sa.String(32), primary_key=True),
    sa.Column("pos", sa.BigInteger, primary_key=True),
    sa.Column("ref", sa.String(1000), primary_key=True),
    sa.Column("alt", sa.String(1000), primary_key=True),
    sa.Column("numbers", sa.String(200), primary_key=True),  # "ac,an,…" that left
    sa.Column("release", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
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

_APPEND_ONLY = [
    f"CREATE TRIGGER IF NOT EXISTS audit_no_{verb} BEFORE {verb} ON audit BEGIN SELECT RAISE(ABORT, 'the audit is"
    " append-only'); END"
    for verb in ("update", "delete")
]


class GatewayDatabase:
    """`read()` gives a connection, `write()` a transaction; writers wait for each other here, so SQLite is never
    busy.
    """

    def __init__(self, engine: AsyncEngine, lock: int) -> None:
        self._engine = engine
        self._lock = lock
        self._writer = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> GatewayDatabase:
        """Opens or makes the file (mode 0600). RuntimeError where another gateway holds it."""
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
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}", pool_size=8, max_overflow=8, pool_timeout=30)
        sa.event.listen(engine.sync_engine, "connect", _pragmas)
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
            for statement in _APPEND_ONLY:
                await connection.execute(sa.text(statement))
        return cls(engine, lock)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        async with self._engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        async with self._writer, self._engine.begin() as connection:
            yield connection

    async def make_durable(self) -> None:
        """What was committed is on the disk when this returns, power cut or not (a commit alone outlives only the
        process).
        """
        async with self._writer, self._engine.connect() as connection:
            await connection.execute(sa.text("PRAGMA wal_checkpoint(FULL)"))

    async def close(self) -> None:
        await self._engine.dispose()
        os.close(self._lock)


def _pragmas(connection: Any, _: Any) -> None:  # SQLAlchemy's event hands over a DBAPI connection without a type
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
