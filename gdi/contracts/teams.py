"""Teams, where Airflow has a DAG for each workflow and team (`GDI_ISOLATION=team`): the file that names them, and which
DAG is whose.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from gdi.contracts.ids import WorkflowName
from gdi.kit.models import Strict, load_model

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


def load_teams(file: Path, name: str, error: type[Exception]) -> Teams:
    """The teams of a file. `error` names the setting `name` and, in the file, the field."""
    return load_model(file, _FILE, error=error, name=name, hint=_FORM)


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
