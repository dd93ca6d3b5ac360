"""The stand-in TES whose tasks have the network: the published plugin's tasks fetch and store by themselves. Never outside this benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from local_federation.sandbox.spec import Sandbox
from local_federation.tes.__main__ import main

closed = Sandbox.argv


def opened(self: Sandbox, binary: Path, command: Any) -> Any:
    return [a for a in closed(self, binary, command) if a != "--unshare-net"]


Sandbox.argv = opened  # type: ignore[method-assign]
raise SystemExit(main())
