"""Who may run what: `isolation: shared` is a DAG for each workflow, `team` a DAG for each workflow and team, by the
file that GDI_TEAMS names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, TypeAdapter

from gdi.contracts.ids import WorkflowName
from gdi.kit.models import Strict, load_model
from gdi.kit.settings import SettingsError
from gdi_operators.settings import settings

SEPARATOR = "__"  # in no name of a workflow or a team, so that a DAG's id says both
TeamName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,49}$")]  # FAB keeps 64 characters of a role's name
UserName = Annotated[str, Field(min_length=1, max_length=256)]


class Team(Strict):
    """`members`: Airflow user names, which are LS AAI subs (contracts: Broker), and accounts of portals. `workflows`:
    none named means all.
    """

    members: list[UserName] = Field(default_factory=list, max_length=10_000)
    workflows: list[WorkflowName] | None = Field(default=None, min_length=1)

    def may_run(self, workflow: str) -> bool:
        return self.workflows is None or workflow in self.workflows


Teams = Mapping[str, Team]  # in the file's order
_FILE = TypeAdapter(dict[TeamName, Team])
_FORM = "It is a mapping of teams: NAME: {members: [user names], workflows: [names; without it all]}"


def teams() -> Teams | None:
    """The teams as the file has them now; None where isolation is shared. SettingsError naming the setting and, in the
    file, the field.
    """
    if settings().isolation == "shared":
        return None
    file = settings().need("teams")
    return load_model(file, _FILE, error=SettingsError, name="GDI_TEAMS", hint=_FORM)


def runners(workflow: str, known: Teams | None) -> list[str | None]:
    """The teams that get a DAG of the workflow; `[None]`, one DAG for nobody in particular, where isolation is
    shared.
    """
    return [None] if known is None else [name for name, team in known.items() if team.may_run(workflow)]


def dag_id_of(workflow: str, team: str | None) -> str:
    return workflow if team is None else f"{workflow}{SEPARATOR}{team}"


def split(dag_id: str) -> tuple[str, str | None]:
    """(workflow, team) of such an id."""
    workflow, found, team = dag_id.partition(SEPARATOR)
    return workflow, team if found else None


def dag_for(workflow: str, user: str, known: Teams | None) -> str | None:
    """The DAG that runs the workflow for a user when nobody is there to choose: of the first team in the file that has
    both. None: there is no such team.
    """
    if known is None:
        return workflow
    return next(
        (dag_id_of(workflow, name) for name, team in known.items() if user in team.members and team.may_run(workflow)),
        None,
    )


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
