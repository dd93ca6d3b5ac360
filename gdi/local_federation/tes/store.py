"""The tasks, in SQLite: every change is one transaction, every state change names the states it may come from, lists
read only indexes and one page.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gdi.contracts.tes import FINAL
from gdi.local_federation.tes.models import Task

SCHEMA = """
CREATE TABLE IF NOT EXISTS tasks (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, state TEXT NOT NULL,
  name TEXT NOT NULL, created TEXT NOT NULL, ended REAL, token TEXT,
  basic TEXT NOT NULL, logs_basic TEXT NOT NULL DEFAULT '[]', spec TEXT NOT NULL, logs TEXT NOT NULL DEFAULT '[]');
CREATE INDEX IF NOT EXISTS tasks_state ON tasks (state, seq);
CREATE INDEX IF NOT EXISTS tasks_owner ON tasks (owner, seq);
CREATE INDEX IF NOT EXISTS tasks_ended ON tasks (ended) WHERE ended IS NOT NULL;
CREATE TABLE IF NOT EXISTS tags (
  key TEXT NOT NULL, value TEXT NOT NULL, seq INTEGER NOT NULL REFERENCES tasks (seq) ON DELETE CASCADE,
  PRIMARY KEY (key, value, seq)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tags_seq ON tags (seq, key);
"""
COLUMNS = {
    "MINIMAL": "t.seq, t.id, t.state, '' AS created, '' AS body, '' AS log",
    "BASIC": "t.seq, t.id, t.state, t.created, t.basic AS body, t.logs_basic AS log",
    "FULL": "t.seq, t.id, t.state, t.created, t.spec AS body, t.logs AS log",
}


def now() -> str:
    """RFC 3339, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Claimed:
    """A task that a slot runs now. `token` is the submitter's own access token, where the task came with one."""

    id: str
    owner: str
    task: Task
    token: str | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Filter:
    """What a list is narrowed to; `owner` None means all owners, a tag with an empty value means any value."""

    owner: str | None = None
    state: str | None = None
    name_prefix: str = ""
    tags: Sequence[tuple[str, str]] = ()
    before: int | None = None
    size: int = 256


@dataclass
class StandInTasks:
    """Synchronous; used from one thread at a time (see `Database`)."""

    file: Path
    db: sqlite3.Connection = field(init=False)

    def __post_init__(self) -> None:
        self.file.touch(mode=0o600)
        self.file.chmod(0o600)  # it holds what clients put behind '#'
        self.db = sqlite3.connect(self.file, isolation_level=None, check_same_thread=False)
        self.db.row_factory = sqlite3.Row
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            "busy_timeout=10000",
            "secure_delete=ON",
        ):
            self.db.execute(f"PRAGMA {pragma}")
        self.db.executescript(SCHEMA)

    def close(self) -> None:
        self.db.close()

    def create(self, owner: str, task: Task, token: str | None) -> str:
        """Keeps a new task as QUEUED; its id."""
        task_id = f"tes-{secrets.token_hex(10)}"
        with self.db:
            self.db.execute("BEGIN IMMEDIATE")
            seq = self.db.execute(
                "INSERT INTO tasks (id, owner, state, name, created, token, basic, spec) VALUES (?, ?, 'QUEUED', ?, ?,"
                " ?, ?, ?)",
                (task_id, owner, task.name or "", now(), token, task.basic(), task.stored()),
            ).lastrowid
            self.db.executemany(
                "INSERT INTO tags (key, value, seq) VALUES (?, ?, ?)",
                [(k, v, seq) for k, v in (task.tags or {}).items()],
            )
        return task_id

    def queued(self) -> int:
        count: int = self.db.execute("SELECT count(*) FROM tasks WHERE state = 'QUEUED'").fetchone()[0]
        return count

    def get(self, task_id: str, view: str, owner: str | None) -> str | None:
        """The task as JSON, or None where there is none that `owner` may see."""
        row = self.db.execute(
            f"SELECT {COLUMNS[view]} FROM tasks t WHERE id = ? AND (? IS NULL OR owner = ?)",  # noqa: S608
            (task_id, owner, owner),
        ).fetchone()
        return None if row is None else _json(row)

    def page(self, view: str, selection: Filter) -> tuple[list[str], int | None]:
        """A page of tasks as JSON, newest first, and the `before` of the next page where there is one."""
        where, values = ["1"], list[Any]()
        source, seq = "tasks t", "t.seq"
        tags = sorted(selection.tags, key=lambda tag: not tag[1])
        if tags and tags[0][1]:
            source, seq = (
                "tags g CROSS JOIN tasks t ON t.seq = g.seq",
                "g.seq",
            )  # CROSS JOIN: SQLite keeps this order, and the index gives seq sorted
            where.append("g.key = ? AND g.value = ?")
            values += tags.pop(0)
        for key, value in tags:
            where.append("EXISTS (SELECT 1 FROM tags x WHERE x.seq = t.seq AND x.key = ? AND (? = '' OR x.value = ?))")
            values += [key, value, value]
        for column, value_ in (("owner", selection.owner), ("state", selection.state)):
            if value_ is not None:
                where.append(f"t.{column} = ?")
                values.append(value_)
        if selection.name_prefix:
            where.append("substr(t.name, 1, ?) = ?")
            values += [len(selection.name_prefix), selection.name_prefix]
        if selection.before is not None:
            where.append(f"{seq} < ?")
            values.append(selection.before)
        # only constants; values are bound
        sql = f"SELECT {COLUMNS[view]} FROM {source} WHERE {' AND '.join(where)} ORDER BY {seq} DESC LIMIT ?"  # noqa: S608
        rows = self.db.execute(sql, [*values, selection.size + 1]).fetchall()
        more = len(rows) > selection.size
        rows = rows[: selection.size]
        return [_json(r) for r in rows], rows[-1]["seq"] if more else None

    def claim(self) -> Claimed | None:
        """The longest waiting task, now INITIALIZING."""
        row = self.db.execute(
            "UPDATE tasks SET state = 'INITIALIZING' WHERE seq = (SELECT seq FROM tasks WHERE state = 'QUEUED' ORDER BY"
            " seq LIMIT 1) RETURNING id, owner, spec, token, logs"
        ).fetchone()
        if row is None:
            return None
        notes = tuple(note for log in json.loads(row["logs"]) for note in log.get("system_logs", []))
        return Claimed(row["id"], row["owner"], Task.model_validate_json(row["spec"]), row["token"], notes)

    def move(self, task_id: str, to: str, *, of: Sequence[str], log: dict[str, Any] | None = None) -> bool:
        """Sets state (and the task log) if the task is in one of the states `of`; False if it is not. A final state
        forgets the token.
        """
        marks = ",".join("?" * len(of))
        final = to in FINAL
        done = self.db.execute(
            # question marks
            f"UPDATE tasks SET state = ?, ended = CASE WHEN ? THEN ? END, "  # noqa: S608
            f"token = CASE WHEN ? THEN NULL ELSE token END, "
            f"logs = coalesce(?, logs), logs_basic = coalesce(?, logs_basic) WHERE id = ? AND state IN ({marks})",
            (
                to,
                final,
                time.time(),
                final,
                None if log is None else json.dumps([log]),
                None if log is None else json.dumps([_basic(log)]),
                task_id,
                *of,
            ),
        )
        return done.rowcount == 1

    def state(self, task_id: str, owner: str | None) -> str | None:
        row = self.db.execute(
            "SELECT state FROM tasks WHERE id = ? AND (? IS NULL OR owner = ?)", (task_id, owner, owner)
        ).fetchone()
        return None if row is None else str(row["state"])

    def recover(self) -> int:
        """After a crash: what ran is queued again (from scratch, same id, before what waited), what was being cancelled
        is cancelled. How many run again.
        """
        with self.db:
            self.db.execute("BEGIN IMMEDIATE")
            self.db.execute(
                "UPDATE tasks SET state = 'CANCELED', ended = ?, token = NULL WHERE state = 'CANCELING'", (time.time(),)
            )
            log = {
                "logs": [],
                "system_logs": [f"{now()} the TES was restarted while this task ran; it runs again from the start"],
            }
            return self.db.execute(
                "UPDATE tasks SET state = 'QUEUED', logs = ?, logs_basic = '[]' WHERE state IN ('INITIALIZING',"
                " 'RUNNING')",
                (json.dumps([log]),),
            ).rowcount

    def forget(self, before: float) -> int:
        """Deletes tasks that ended before that time (seconds since 1970), a thousand at most at once."""
        return self.db.execute(
            "DELETE FROM tasks WHERE seq IN (SELECT seq FROM tasks WHERE ended IS NOT NULL AND ended < ? ORDER BY ended"
            " LIMIT 1000)",
            (before,),
        ).rowcount


def _basic(log: dict[str, Any]) -> dict[str, Any]:
    hidden = {"stdout", "stderr"}
    inner = [{k: v for k, v in e.items() if k not in hidden} for e in log.get("logs", [])]
    return {**{k: v for k, v in log.items() if k != "system_logs"}, "logs": inner}


def _json(row: sqlite3.Row) -> str:
    """Task JSON from stored JSON, by joining texts: nothing is parsed for a list of thousands."""
    head = f'{{"id":{json.dumps(row["id"])},"state":"{row["state"]}"'
    if not row["body"]:
        return head + "}"
    return f'{head},"creation_time":"{row["created"]}","logs":{row["log"]},{row["body"][1:]}'
