"""What Snakemake's process says: its file of events, handed to the pump, which alone numbers and sends; its standard
error, passed on.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

from snakemake_tes_auth.events.events import EventPump

MAX_LINE = 256 * 1024
PERIOD = 0.2
# What only the pod may say, whatever a workflow writes into the file.
ALLOWED = frozenset({"rules", "job", "progress", "note"})


class LogFollower:
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


class Complaints:
    """Passes standard error on and keeps the line that best says why Snakemake itself fell over (a Snakefile that does
    not parse is not always logged).
    """

    _ERROR = re.compile(r"^([A-Za-z_.]*(?:Error|Exception))\b.{0,1500}$")

    def __init__(self) -> None:
        self.best = ""

    async def copy(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while data := await stream.read(64 * 1024):
            sys.stderr.buffer.write(data)
            sys.stderr.buffer.flush()
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[-4096:]
            for line in lines:
                text = line[:2000].decode(errors="replace").strip()
                # A SyntaxError names the workflow's fault; what follows it may be a fault of its reporting.
                if self._ERROR.match(text) and not self.best.startswith("SyntaxError"):
                    self.best = text
