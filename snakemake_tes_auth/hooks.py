"""What is changed in Snakemake's own process before it reads the workflow, once, and only where this executor was
chosen.
"""

from __future__ import annotations

from snakemake_tes_auth.files import s3_folders
from snakemake_tes_auth.workflow import checkpoint_folders, opened

_installed = False


def install() -> None:
    """Records what the Snakefiles read and lets functions look into the folders of checkpoints, and asks S3 by
    folders."""
    global _installed
    opened.record()
    if not _installed:
        _installed = True
        checkpoint_folders.install()
        s3_folders.install()
