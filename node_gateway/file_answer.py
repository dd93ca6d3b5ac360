"""An answer that is a file made for it: in a folder of its own, which goes when the file was sent."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from fastapi.responses import FileResponse
from starlette.background import BackgroundTask


async def file_answer(
    write: Callable[[Path], Awaitable[str]], headers: Mapping[str, str] | None = None
) -> FileResponse:
    """`write` makes the file and says its media type; nothing stays of a file that it could not make."""
    folder = Path(tempfile.mkdtemp(prefix="gdi-release-"))
    try:
        media_type = await write(folder / "release")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    gone = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    return FileResponse(folder / "release", media_type=media_type, headers=headers, background=gone)
