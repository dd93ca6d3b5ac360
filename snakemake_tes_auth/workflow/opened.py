"""Which files a workflow reads while it is parsed: whatever its Snakefiles open by Python, also through other
libraries. Snakemake in a task parses them again and needs the same files.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from snakemake_tes_auth.workflow.project import foreign

MAX_OPENED = 1000
_opened: dict[str, None] = {}
_recording = False
_hooked = False


def record() -> None:
    """Begins to record, until `stop`."""
    global _recording, _hooked
    _recording = True
    if not _hooked:
        _hooked = True
        sys.addaudithook(_hook)  # cannot be taken away again


def stop() -> None:
    global _recording
    _recording = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _recording or event != "open" or len(_opened) >= MAX_OPENED:
        return
    name, _, flags = arguments
    if isinstance(name, str) and isinstance(flags, int) and flags & os.O_ACCMODE == os.O_RDONLY:
        _opened.setdefault(name)


def opened() -> set[Path]:
    """The plain files, absolute; without what belongs to Python, to the system, or is hidden."""
    modules = [str(f) for m in list(sys.modules.values()) if isinstance(f := getattr(m, "__file__", None), str)]
    paths = {Path(os.path.abspath(name)) for name in (*_opened, *modules)}  # noqa: PTH100
    return {path for path in paths if not foreign(path) and path.is_file()}
