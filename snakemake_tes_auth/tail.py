"""Follows the file of events that Snakemake's process writes and hands them to the pump, which alone numbers and sends."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from snakemake_tes_auth.events import EventPump

MAX_LINE = 256 * 1024
PERIOD = 0.2
# What only the pod may say, whatever a workflow writes into the file.
ALLOWED = frozenset({"rules", "job", "progress", "note"})


class Tail:
    """`ended` is set when no more will be written. `last_note` is the last error Snakemake told."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest = b""
        self._offset = 0
        self.ended = False
        self.last_note = ""

    async def follow(self, pump: EventPump) -> None:
        while True:
            ended = self.ended  # read before the last look: what was written until then is seen
            while pump.room > 1000 and (lines := self._read()):
                for line in lines:
                    self._take(line, pump)
            if ended:
                return
            await asyncio.sleep(PERIOD)

    def _read(self) -> list[bytes]:
        try:
            with self._path.open("rb") as handle:
                handle.seek(self._offset)
                data = handle.read(MAX_LINE)
        except OSError:
            return []
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            self._rest = b""
        return lines

    def _take(self, line: bytes, pump: EventPump) -> None:
        try:
            values: Any = json.loads(line)
        except ValueError:
            return
        if not isinstance(values, dict) or values.get("kind") not in ALLOWED:
            return
        if values["kind"] == "note":
            self.last_note = str(values.get("message") or "")[:2000]
        pump.put(values)
