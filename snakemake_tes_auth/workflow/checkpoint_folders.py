"""Looks into a checkpoint's folder (`glob_wildcards`, `os.listdir`, `Path.glob`) find what the task made: before a
function gets the checkpoint's output, its folders (and small files) are brought here.

From a storage whose contents may come, they come. From a node only the names and sizes do: files that cannot be opened.
Leans on Snakemake's `Checkpoint.get`, checked against 9.27.1.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_FILE = 64 * 1024 * 1024  # bytes of a checkpoint's file that is brought for whoever opens it by its name
WITHHELD = "contents-stay-at-the-node"


def install() -> None:
    """From now on `checkpoints.NAME.get(…)` brings the folders that the checkpoint made."""
    from snakemake.checkpoints import Checkpoint

    get = Checkpoint.get

    def get_with_folders(self: Any, **wildcards: Any) -> Any:
        job = get(self, **wildcards)
        for f in job.output:
            _bring(f, str(self.rule.name))
        return job

    Checkpoint.get = get_with_folders


_brought: dict[str, float] = {}  # local path -> the time of what the storage had there


def _bring(f: Any, rule: str) -> None:
    from snakemake_interface_common.exceptions import WorkflowError

    if not getattr(f, "is_storage", False):
        return
    stored = f.storage_object
    names = getattr(stored, "names", None)  # our own storage: names and sizes
    try:
        folder = stored.is_dir() if hasattr(stored, "is_dir") else bool(f.flags.get("directory"))
        if not folder and (callable(names) or stored.size() > MAX_FILE):
            return  # a function that opens it by Snakemake's own `open()` brings it, or is refused by its rule's name
        local, when = Path(stored.local_path()), float(stored.mtime())
        if _brought.get(str(local)) == when and local.exists():
            return
        if local.is_dir():
            shutil.rmtree(local)
        local.parent.mkdir(parents=True, exist_ok=True)
        if callable(names):
            lay_out(local, names())
        else:
            stored.retrieve_object()
    except WorkflowError:
        raise
    except Exception as error:  # any storage plugin's own exception
        raise WorkflowError(
            f"the folder {f} of checkpoint {rule} cannot be listed: {type(error).__name__}: {str(error)[:300]}. Let the"
            " checkpoint write the names into a file, and read that"
        ) from None
    if folder and (not local.is_dir() or not any(local.iterdir())):
        raise WorkflowError(
            f"the folder {f} of checkpoint {rule} cannot be listed: its storage shows nothing in it. Let the checkpoint"
            " write the names into a file, and read that"
        )
    _brought[str(local)] = when


def lay_out(folder: Path, names: Mapping[str, int]) -> None:
    """Files of these names and sizes below `folder` that nobody can open: to list them is all that may be done here."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in names.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as handle:
            handle.truncate(size)
        path.chmod(0)
        if os.access(path, os.R_OK):  # root reads everything: then what is read must not look like contents
            path.unlink()
            path.symlink_to(Path("/") / WITHHELD / name)
