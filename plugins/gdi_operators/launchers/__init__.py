"""Where Snakemake pods run: one interface (`base`), one file for each way. `get_launcher(name)` gives the one that is configured."""

from __future__ import annotations

from gdi_operators.launchers.base import Launcher, LauncherError, PodSpec, PodStatus
from gdi_operators.launchers.process import ProcessLauncher
from gdi_operators.settings import SettingsError, settings

__all__ = ["Launcher", "LauncherError", "PodSpec", "PodStatus", "get_launcher"]


def get_launcher(name: str | None = None) -> Launcher:
    """The launcher of that name, or the configured one (GDI_LAUNCHER). SettingsError where it cannot be had."""
    name = name or settings().launcher
    if name == "process":
        return ProcessLauncher(settings().need("process_host_socket"))
    raise SettingsError(f"launcher {name!r} is not available in this installation; GDI_LAUNCHER may be: process")
