"""What our steps import, to be imported once by the process that forks them: a second less of each step that makes a
Kubernetes pod.

A scheduler with local workers does it by our listener, a Celery worker by `gdi_operators.celery_settings`. With
KubernetesExecutor each step is a process of its own, and there is nobody to do it for all.
"""

from __future__ import annotations

import gdi_operators.operators  # noqa: F401
from gdi.kit.settings import SettingsError
from gdi_operators.settings import settings


def launcher() -> None:
    """The configured launcher's code. A wrong setting is the steps' to tell."""
    try:
        if settings().launcher == "kubernetes":
            import gdi_operators.operators.snakemake_pod  # noqa: F401
    except SettingsError:
        pass


launcher()
