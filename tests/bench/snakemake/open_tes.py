"""The stand-in TES as this benchmark needs it, and never elsewhere: tasks with the network, since the published
plugin's fetch and store by themselves (BENCH_NETWORK=1), and the CPU time of each task's command, written by bash's
`times` into BENCH_TIMES/times-…."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gdi.local_federation.tes.__main__ import main
from gdi.runner.sandbox import Bind
from gdi.runner.sandbox.spec import Sandbox

closed = Sandbox.argv
TIMES = os.environ.get("BENCH_TIMES", "")
SCRIPT = '"$@"; code=$?; times > "/bench/times-$RANDOM$RANDOM$RANDOM"; exit $code'


def opened(self: Sandbox, binary: Path, command: Sequence[str], *more: Any, **named: Any) -> list[str]:
    if TIMES:
        self = replace(self, binds=[*self.binds, Bind(Path(TIMES), "/bench", writable=True)])
        command = ["/bin/bash", "-c", SCRIPT, "task", *command]
    argv = closed(self, binary, command, *more, **named)
    return [a for a in argv if a != "--unshare-net"] if os.environ.get("BENCH_NETWORK") else argv


Sandbox.argv = opened  # type: ignore[method-assign, assignment]
raise SystemExit(main())
