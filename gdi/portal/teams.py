"""Which DAG of Airflow a user's run is of: the workflow's, or that of the user's team."""

from __future__ import annotations

from pathlib import Path

from gdi.contracts.teams import Teams, dag_for, load_teams
from gdi.kit.problem import ProblemError
from gdi.kit.reloading_file import ReloadingFile
from gdi.kit.settings import SettingsError


class DagNames:
    """`file`: Airflow's GDI_TEAMS, where its isolation is `team`; read again when it changes."""

    def __init__(self, file: Path | None) -> None:
        self._file: ReloadingFile[Teams] | None = None
        if file is not None:
            self._file = ReloadingFile(
                file, lambda path: load_teams(path, "GDI_PORTAL_TEAMS", SettingsError), SettingsError, "teams"
            )

    def of(self, workflow: str, user: str) -> str:
        """ProblemError 403 `no-team` for a user whose teams may not run the workflow."""
        found = dag_for(workflow, user, None if self._file is None else self._file.look())
        if found is None:
            raise ProblemError(
                403,
                "no-team",
                f"You are in no team that may run {workflow}.",
                action="Ask the operator of the coordinator to add you to a team.",
            )
        return found
