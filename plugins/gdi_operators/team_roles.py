"""`python -m gdi_operators.team_roles`: makes FAB's roles and their members what GDI_TEAMS says. Where Airflow's
database is reached, with Airflow's settings.

A team's role may see the team's DAGs, start, stop and clear their runs, read logs and XComs, and nothing else. Exact,
and safe to repeat: what a role of ours has beyond that is taken away, also from teams that are no longer in the file.
Accounts are not made here; a member without one gets the role at the next call.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any

from gdi.kit.settings import SettingsError
from gdi_operators.catalogue import scan
from gdi_operators.settings import settings
from gdi_operators.teams import DAG_ACTIONS, ROLE_PREFIX, Teams, dag_id_of, need_access_control, role_of, teams

Permission = tuple[str, str]  # FAB's action and resource

# On everything that belongs to a DAG FAB asks for two: this, and `can_read` or `can_edit` on the DAG itself, which the
# team has for its own.
OF_ITS_DAGS: tuple[Permission, ...] = (
    ("can_read", "DAG Runs"),
    ("can_create", "DAG Runs"),
    ("can_edit", "DAG Runs"),  # look, start, stop
    ("can_read", "Task Instances"),
    ("can_edit", "Task Instances"),  # look, clear
    ("can_read", "Task Logs"),
    ("can_read", "XComs"),
    ("can_read", "DAG Versions"),
    ("can_read", "DAG Dependencies"),
    ("can_read", "HITL Detail"),  # without them the list of DAGs and the graph are empty
)
OF_EVERY_ROLE: Permission = ("can_read", "Website")  # FAB itself gives it, and again where it was taken
# The tabs Jobs and Results are known by the list of plugins.
OF_THE_UI: tuple[Permission, ...] = (("menu_access", "DAGs"), ("can_read", "Plugins"), OF_EVERY_ROLE)


def permissions_by_role(known: Teams, workflows: Iterable[str]) -> dict[str, set[Permission]]:
    """By role, all that it may."""
    names = list(workflows)
    return {
        role_of(name): {
            *OF_ITS_DAGS,
            *OF_THE_UI,
            *((action, f"DAG:{dag_id_of(w, name)}") for w in names if team.may_run(w) for action in DAG_ACTIONS),
        }
        for name, team in known.items()
    }


def sync(
    security: Any, known: Teams, workflows: Iterable[str], tell: Callable[[str], None]
) -> None:  # FAB's security manager has no types
    """Makes roles, their permissions and their members so. Blocking: writes Airflow's database."""
    roles = permissions_by_role(known, workflows)
    for name, permissions in roles.items():
        role = security.find_role(name) or security.add_role(name)
        has = {(p.action.name, p.resource.name) for p in role.permissions}
        for action, resource in sorted(permissions - has):
            security.add_permission_to_role(role, security.create_permission(action, resource))
        tell(f"role {name}: {len(permissions)} permissions")
    for role in security.get_all_roles():
        if role.name.startswith(ROLE_PREFIX):
            for permission in list(role.permissions):
                if (permission.action.name, permission.resource.name) not in roles.get(role.name, {OF_EVERY_ROLE}):
                    security.remove_permission_from_role(role, permission)
                    tell(f"role {role.name}: no longer {permission.action.name} on {permission.resource.name}")
    _members(security, known, tell)


def _members(security: Any, known: Teams, tell: Callable[[str], None]) -> None:
    found = set()
    for user in security.get_all_users():
        found.add(user.username)
        others = [r for r in user.roles if not r.name.startswith(ROLE_PREFIX)]
        mine = {role_of(name) for name, team in known.items() if user.username in team.members}
        has = {r.name for r in user.roles} - {r.name for r in others}
        if mine != has:
            user.roles = [*others, *(security.find_role(name) for name in sorted(mine))]
            security.update_user(user)
            tell(f"{user.username}: {', '.join(sorted(mine)) or 'in no team any more'}")
        for role in others if mine else []:
            if any((p.action.name, p.resource.name) == ("can_read", "DAGs") for p in role.permissions):
                tell(
                    f"WARNING: {user.username} sees every team's runs, by the role {role.name}: `airflow users"
                    f" remove-role -u {user.username} -r {role.name}`"
                )
    for name, team in known.items():
        for member in team.members:
            if member not in found:
                tell(
                    f"{member}: no account in Airflow yet. After the first sign-in, or `airflow users create -u"
                    f" {member} -r {role_of(name)} …`, repeat this."
                )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m gdi_operators.team_roles",
        description="Makes FAB's roles and their members what GDI_TEAMS says.",
    )
    parser.add_argument(
        "--end", action="store_true", help="take every right from every team, when isolation is shared again"
    )
    options = parser.parse_args(arguments)
    try:
        known = teams()
        if known is None and not options.end:
            raise SettingsError(
                "GDI_ISOLATION is not team here, so nothing was changed. To take every right from every team: --end"
            )
        need_access_control()
        workflows = [] if options.end else [entry.workflow.name for entry in scan(settings().need("workflows"))[0]]
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as appbuilder:
        sync(appbuilder.sm, {} if options.end else known or {}, workflows, print)
    return 0


if __name__ == "__main__":
    sys.exit(main())
