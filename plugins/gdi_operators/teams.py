"""Who may run what: `isolation: shared` is a DAG for each workflow, `team` a DAG for each workflow and team, by the
file that GDI_TEAMS names.
"""

from __future__ import annotations

from gdi.contracts.teams import Team as Team
from gdi.contracts.teams import Teams as Teams
from gdi.contracts.teams import dag_for as dag_for
from gdi.contracts.teams import dag_id_of as dag_id_of
from gdi.contracts.teams import load_teams
from gdi.contracts.teams import split as split
from gdi.kit.settings import SettingsError
from gdi_operators.settings import settings


def teams() -> Teams | None:
    """The teams as the file has them now; None where isolation is shared. SettingsError naming the setting and, in the
    file, the field.
    """
    if settings().isolation == "shared":
        return None
    return load_teams(settings().need("teams"), "GDI_TEAMS", SettingsError)


def runners(workflow: str, known: Teams | None) -> list[str | None]:
    """The teams that get a DAG of the workflow; `[None]`, one DAG for nobody in particular, where isolation is
    shared.
    """
    return [None] if known is None else [name for name, team in known.items() if team.may_run(workflow)]


def role_of(team: str) -> str:
    """FAB's role of the team, made by gdi_operators.team_roles."""
    return f"{ROLE_PREFIX}{team}"


ROLE_PREFIX = "gdi-team-"
DAG_ACTIONS = frozenset({"can_read", "can_edit"})  # to start, stop and clear is to edit, for FAB


def need_access_control() -> None:
    """SettingsError unless Airflow's auth manager is the one that heeds `access_control`; any other shows every team's
    DAGs to everybody.
    """
    from airflow.configuration import conf

    manager = str(conf.get("core", "auth_manager", fallback=""))
    if "FabAuthManager" not in manager:  # as Airflow itself asks before it stores a DAG's access_control
        raise SettingsError(
            f"GDI_ISOLATION is team, but {manager.rpartition('.')[2] or 'Airflow'} does not heed teams: set"
            " auth_manager in [core] to airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
        )
