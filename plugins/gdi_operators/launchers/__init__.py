"""Where Snakemake pods run: one interface (`base`), one file for each way. `get_launcher(name)` gives the one that is
configured.
"""

from __future__ import annotations

from pydantic import ValidationError

from gdi.kit.settings import SettingsError
from gdi.pods import config as pod_config
from gdi.pods.model import LauncherError, PodSpec, PodStatus
from gdi_operators.launchers.base import Launcher
from gdi_operators.launchers.process import ProcessLauncher
from gdi_operators.settings import settings

__all__ = ["Launcher", "LauncherError", "PodSpec", "PodStatus", "get_launcher", "wrong_wish"]


def wrong_wish(wish: object) -> list[str]:
    """What is wrong with a conf's `pod`, a sentence each; where pods run as processes only its form is looked at."""
    try:
        found = pod_config.Wish.model_validate(wish)
    except ValidationError as error:
        return [f"pod{''.join(f'.{p}' for p in e['loc'])}: {e['msg']}" for e in error.errors()[:10]]
    path = settings().pod_config if settings().launcher == "kubernetes" else None
    return [] if path is None else pod_config.read(path).limits.exceeded(found)


def get_launcher(name: str | None = None) -> Launcher:
    """The launcher of that name, or the configured one (GDI_LAUNCHER). SettingsError where it cannot be had."""
    name = name or settings().launcher
    if name == "process":
        return ProcessLauncher(settings().need("process_host_socket"))
    if name == "kubernetes":
        raise SettingsError("pods of Kubernetes are made by SnakemakePodOperator; use it in place of SnakemakeOperator")
    raise SettingsError(f"launcher {name!r} is not known; GDI_LAUNCHER may be: process, kubernetes")
