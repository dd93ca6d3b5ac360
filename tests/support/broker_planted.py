"""Runs and events that stand in a broker's database already."""

from __future__ import annotations

import json
import sqlite3
import time

from gdi.contracts import broker_api as m
from tests.support.broker_kit import World


def event(seq: int, size: int) -> m.Event:
    """About `size` characters."""
    wildcards = {f"w{i}": "x" * 250 for i in range(size // 256)}
    return m.Event(seq=seq, time=time.time(), kind="note", wildcards=wildcards)


def planted(world: World, run: str, total: int) -> int:
    """Puts events of `total` bytes in all into the broker's database, 200 KB each; how many."""
    wildcards = {f"w{i}": "x" * 250 for i in range(50)}
    body = json.dumps({"seq": 1, "time": time.time(), "kind": "note", "wildcards": wildcards, "message": "y" * 1900})
    count = total // len(body)
    rows = ((run, 10_000 + n, 1, "planted", n, None, body) for n in range(count))
    with sqlite3.connect(world.folder / "broker.db", timeout=60) as database:
        database.executemany(
            "INSERT INTO events (run_id, number, attempt, source, seq, node, body) VALUES (?, ?, ?, ?, ?, ?, ?)", rows
        )
    return count
