"""Who may do what: over every endpoint that tells of a run, two users of two teams see and do their own and nothing of
the other's; and where isolation is shared, who has no role in Airflow sees nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.support.airflow_kit import wait_for
from tests.support.isolation_kit import WORKFLOW, Belongings, Isolation, operations, start

pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]
OWN, LIST, NONE = "own", "list", "none"
CLOSED = (401, 403, 404)
V2 = "/api/v2"
DAG, RUN = f"{V2}/dags/{{D}}", f"{V2}/dags/{{D}}/dagRuns/{{R}}"
TI = f"{RUN}/taskInstances/admit"
ALL = f"{V2}/dags/~/dagRuns"


@dataclass(frozen=True)
class Endpoint:
    """`{D}`, `{R}`: the user's DAG and run; `{N}`: a run made for this test, which may be spoilt. `kind`: OWN, their
    own only; LIST, a list of all of it, of which each sees their own; NONE, for operators only. `shows`: the answer
    holds what only its owner may read.
    """

    method: str
    path: str
    kind: str = OWN
    body: Any = None
    shows: bool = False
    params: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        path = self.path.replace("{D}", "DAG").replace("{R}", "RUN").replace("{N}", "NEW")
        return f"{self.method} {path}{'?' + ','.join(self.params) if self.params else ''}"

    def ask(self, client: httpx.Client, of: Belongings, new: str = "", by: Belongings | None = None) -> httpx.Response:
        def put(text: str) -> str:
            text = text.replace("{O}", by.dag).replace("{P}", by.run) if by else text
            return text.replace("{D}", of.dag).replace("{R}", of.run).replace("{N}", new)

        body = None if self.body is None else json.loads(put(json.dumps(self.body)))
        return client.request(
            self.method, put(self.path), json=body, params={k: put(v) for k, v in self.params.items()}
        )


def own(method: str, path: str, body: Any = None, **params: str) -> Endpoint:
    return Endpoint(method, path, OWN, body, params=params)


def told(method: str, path: str, body: Any = None, **params: str) -> Endpoint:
    return Endpoint(method, path, OWN, body, shows=True, params=params)


def many(method: str, path: str, body: Any = None, **params: str) -> Endpoint:
    return Endpoint(method, path, LIST, body, params=params)


def none(method: str, path: str, body: Any = None, **params: str) -> Endpoint:
    return Endpoint(method, path, NONE, body, params=params)


CONF = {"datasets": ["DS-A"], "grant": "g-1"}
START = {"logical_date": None, "conf": CONF}
CLEAR = {"dry_run": False, "only_failed": False, "dag_run_id": "{N}", "task_ids": ["admit"], "reset_dag_runs": True}
ENDPOINTS = [
    # a DAG
    own("GET", DAG),
    own("GET", f"{DAG}/details"),
    own("GET", f"{DAG}/tasks"),
    own("GET", f"{DAG}/tasks/admit"),
    own("GET", f"{DAG}/dagVersions"),
    own("GET", f"{DAG}/dagVersions/1"),
    own("PATCH", DAG, {"is_paused": False}),
    own("POST", f"{DAG}/favorite"),
    # its runs
    told("GET", f"{DAG}/dagRuns"),
    told("GET", RUN),
    own("GET", f"{RUN}/wait", interval="1"),
    own("POST", f"{DAG}/dagRuns", {"logical_date": None, "conf": {"datasets": ["DS-A"]}}),
    own("POST", f"{DAG}/dagRuns", START),
    own("PATCH", f"{DAG}/dagRuns/{{N}}", {"state": "failed"}),
    own("PATCH", f"{DAG}/dagRuns/{{N}}", {"note": "n"}),
    own("POST", f"{DAG}/dagRuns/{{N}}/clear", {"dry_run": False}),
    own("POST", f"{DAG}/clearDagRuns", {"dry_run": False, "dag_runs": [{"dag_run_id": "{N}"}]}),
    # its tasks
    own("GET", f"{RUN}/taskInstances"),
    told("GET", TI),
    own("GET", f"{TI}/tries"),
    own("GET", f"{TI}/tries/1"),
    own("GET", f"{TI}/dependencies"),
    own("GET", f"{TI}/links"),
    own("GET", f"{TI}/-1"),
    own("GET", f"{RUN}/taskInstances/analyse/listMapped"),
    told("GET", f"{TI}/logs/1"),
    own("POST", f"{DAG}/clearTaskInstances", CLEAR),
    own("POST", f"{DAG}/clearTaskInstances", {**CLEAR, "dry_run": True}),
    own("PATCH", f"{DAG}/dagRuns/{{N}}/taskInstances/admit", {"new_state": "failed"}),
    own("PATCH", f"{TI}/dry_run", {"new_state": "failed"}),
    own(
        "PATCH",
        f"{DAG}/dagRuns/{{N}}/taskInstances",
        {"actions": [{"action": "update", "entities": [{"task_id": "admit", "new_state": "failed"}]}]},
    ),
    own("PATCH", f"{DAG}/dagRuns/{{N}}/taskGroupInstances/rules/dry_run", {"new_state": "failed"}),
    # what tasks left behind
    told("GET", f"{TI}/xcomEntries/mark"),
    own("GET", f"{TI}/xcomEntries"),
    own("GET", f"{TI}/state-store"),
    own("PUT", f"{TI}/state-store/k", {"value": "v"}),
    told("GET", f"{RUN}/hitlDetails"),
    told("GET", f"{TI}/-1/hitlDetails"),
    told("GET", f"{V2}/backfills", dag_id="{D}"),
    told("GET", "/ui/backfills", dag_id="{D}"),
    # what Airflow's pages read
    own("GET", "/ui/grid/runs/{D}"),
    own("GET", "/ui/grid/structure/{D}"),
    own("GET", "/ui/grid/ti_summaries/{D}", run_ids="{R}"),
    own("GET", "/ui/gantt/{D}/{R}"),
    own("GET", "/ui/calendar/{D}", logical_date_gte="2020-01-01T00:00:00Z"),
    own("GET", "/ui/structure/structure_data", dag_id="{D}"),
    own("GET", "/ui/dags/{D}/latest_run"),
    own("GET", "/ui/dags/{D}/dagRuns/{R}/stats"),
    own("GET", "/ui/dags/{D}/dagRuns/{R}/deadlines"),
    own("GET", "/ui/dags/{D}/deadlineAlerts"),
    # the tabs Jobs and Results
    own("GET", "/gdi/jobs/{D}/{R}"),
    own("GET", "/gdi/results/{D}/{R}"),
    own("GET", "/gdi/data/jobs/{D}/{R}"),
    told("GET", "/gdi/data/results/{D}/{R}"),
    told("GET", "/gdi/file/{D}/{R}", name="releases.json"),
    own("GET", "/gdi/file/{D}/{R}", name="answer.tsv"),
    own("GET", "/gdi/crate/{D}/{R}"),
    # lists of everything
    many("GET", f"{V2}/dags"),
    many("GET", f"{V2}/dags", dag_id_pattern=WORKFLOW),
    many("GET", "/ui/dags"),
    many("GET", ALL),
    many("POST", f"{ALL}/list", {}),
    many("GET", f"{ALL}/~/taskInstances"),
    many("POST", f"{ALL}/~/taskInstances/list", {}),
    many("GET", f"{ALL}/~/taskInstances/~/xcomEntries"),
    many("GET", f"{ALL}/~/hitlDetails"),
    many("GET", f"{V2}/dags/~/dagVersions"),
    many("GET", f"{V2}/dagStats"),
    many("GET", f"{V2}/dagTags"),
    many("GET", "/ui/backfills"),  # for operators only
    none("GET", f"{V2}/dagSources/{{D}}"),
    none("GET", f"{V2}/dagWarnings"),
    none("GET", f"{V2}/importErrors"),
    none("GET", f"{V2}/eventLogs"),
    none("GET", f"{V2}/eventLogs", dag_id="{D}"),
    none("GET", f"{V2}/connections"),
    none("GET", f"{V2}/variables"),
    none("GET", f"{V2}/pools"),
    none("GET", f"{V2}/config"),
    none("GET", f"{V2}/providers"),
    none("GET", f"{V2}/jobs"),
    none("GET", f"{V2}/assets"),
    none("GET", f"{V2}/assets/events"),
    none("GET", "/ui/connections/hook_meta"),
    none("GET", "/ui/partitioned_dag_runs"),
    none("GET", f"{V2}/dags/housekeeping"),
    none("GET", f"{V2}/dags/recurring/dagRuns"),
    none("POST", f"{V2}/dags/housekeeping/dagRuns", {"logical_date": None}),
    none("POST", f"{V2}/variables", {"key": "k{N}", "value": "v"}),
    none("PATCH", f"{V2}/pools", {"actions": [{"action": "create", "entities": [{"name": "p{N}", "slots": 1}]}]}),
    none("POST", f"{TI}/xcomEntries", {"key": "k{N}", "value": "v"}),
    none("PATCH", f"{TI}/xcomEntries/mark", {"value": "{N}"}),
    none("DELETE", f"{DAG}/dagRuns/{{N}}"),
    none("DELETE", f"{DAG}/dagRuns/{{N}}/taskInstances/admit"),
    none("GET", "/auth/fab/v1/users"),
    none("GET", "/auth/fab/v1/roles"),
]
# Asked by one user about the other's things, through what they may do: `~`, their own DAG's address, a parameter beside
# it. {O}, {P}: the asker's DAG and run.
UPDATE = {
    "actions": [
        {
            "action": "update",
            "entities": [{"dag_id": "{D}", "dag_run_id": "{N}", "task_id": "admit", "new_state": "failed"}],
        }
    ]
}
REMOVE = {"actions": [{"action": "delete", "entities": [{"dag_id": "{D}", "dag_run_id": "{N}", "task_id": "admit"}]}]}
RUNS = {"actions": [{"action": "update", "entities": [{"dag_id": "{D}", "dag_run_id": "{N}", "state": "failed"}]}]}
RUNS_AWAY = {"actions": [{"action": "delete", "entities": [{"dag_id": "{D}", "dag_run_id": "{N}"}]}]}
CLEAR_RUNS = {"dry_run": False, "dag_runs": [{"dag_id": "{D}", "dag_run_id": "{N}"}]}
ROUND_ABOUT = [
    own("PATCH", f"{ALL}/~/taskInstances", UPDATE),
    own("PATCH", f"{V2}/dags/{{O}}/dagRuns/~/taskInstances", UPDATE),
    own("PATCH", f"{V2}/dags/{{O}}/dagRuns/{{P}}/taskInstances", UPDATE),
    own("PATCH", f"{ALL}/~/taskInstances", REMOVE),
    own("PATCH", f"{V2}/dags/{{O}}/dagRuns/{{P}}/taskInstances", REMOVE),
    own("PATCH", ALL, RUNS),
    own("PATCH", f"{V2}/dags/{{O}}/dagRuns", RUNS),
    own("PATCH", ALL, RUNS_AWAY),
    own("PATCH", f"{V2}/dags/{{O}}/dagRuns", RUNS_AWAY),
    own("POST", f"{V2}/dags/~/clearDagRuns", CLEAR_RUNS),
    own("POST", f"{V2}/dags/{{O}}/clearDagRuns", CLEAR_RUNS),
    own("POST", f"{V2}/dags/~/clearDagRuns", {"partition_date_start": "2020-01-01T00:00:00Z"}),
    own("POST", f"{V2}/dags/~/clearTaskInstances", CLEAR),
    own("POST", f"{V2}/dags/{{O}}/clearTaskInstances", CLEAR),
    own("POST", f"{V2}/dags/~/clearTaskInstances", CLEAR, dag_id="{O}"),
    own("PATCH", f"{V2}/dags", {"is_paused": True}, dag_id="{O}", dag_id_pattern="{D}"),
    own("PATCH", f"{V2}/dags/{{O}}/dagRuns/{{N}}", {"state": "failed"}),
    own("PATCH", f"{ALL}/{{N}}", {"state": "failed"}),
    own(
        "POST",
        f"{V2}/backfills",
        {"dag_id": "{D}", "from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-02T00:00:00Z"},
        dag_id="{O}",
    ),
    own("GET", f"{V2}/backfills/1"),
    own("GET", f"{V2}/backfills/2"),
    own("PUT", f"{V2}/backfills/1/cancel"),
    own("PUT", f"{V2}/backfills/2/cancel"),
    own("GET", f"{V2}/backfills?dag_id={{O}}&dag_id={{D}}"),
    own("GET", f"{V2}/backfills?dag_id={{D}}&dag_id={{O}}"),
    own("GET", "/ui/backfills", dag_id="{D}"),
    own("GET", "/ui/structure/structure_data?dag_id={O}&dag_id={D}"),
    own("GET", "/ui/structure/structure_data?dag_id={D}&dag_id={O}"),
    own("GET", f"{V2}/dags", dag_ids="{D}"),
    own("GET", "/ui/dags", dag_ids="{D}"),
    own("GET", f"{V2}/dagStats", dag_ids="{D}"),
    own("GET", f"{V2}/eventLogs", dag_id="{O}"),
    own("POST", f"{ALL}/list", {"dag_ids": ["{D}"]}),
    own("POST", f"{ALL}/~/taskInstances/list", {"dag_ids": ["{D}"]}),
    own("GET", f"{ALL}/{{R}}"),
    own("GET", f"{ALL}/{{R}}/taskInstances"),
    own("GET", f"{ALL}/{{R}}/taskInstances/admit"),
    own("GET", f"{ALL}/{{R}}/taskInstances/admit/logs/1"),
    own("GET", f"{ALL}/{{R}}/taskInstances/admit/xcomEntries/mark"),
    own("GET", f"{V2}/dags/{{O}}/dagRuns/{{R}}/taskInstances/admit/xcomEntries/mark"),
    own("GET", f"{V2}/dags/{{O}}/dagRuns/{{R}}/taskInstances/admit/logs/1"),
    own("GET", "/ui/dependencies"),
    own("GET", "/ui/dependencies", node_id="dag:{D}"),
    own("GET", "/ui/dags/~/dagRuns/~/deadlines"),
    own("GET", "/ui/dags/~/latest_run"),
    own("GET", "/ui/grid/ti_summaries/{O}", run_ids="{R}"),
    own("GET", "/ui/grid/runs/~"),
    own("GET", "/ui/gantt/~/{R}"),
    own("GET", "/ui/dags/~/dagRuns/{R}/stats"),
    own("GET", "/gdi/data/results/~/{R}"),
    own("GET", "/gdi/data/results/~/{R}", dag_id="{D}"),
    own("GET", "/gdi/data/results/{O}/{R}", dag_id="{D}"),
    own("GET", "/gdi/data/results/{O}/%2e%2e/{D}/{R}"),
    own("GET", "/gdi/file/{O}/..%2F..%2F{D}/{R}", name="releases.json"),
    own("GET", "/gdi/file/{O}/{P}", name="../{R}/releases.json"),
    own("GET", "/gdi/crate/{O}/{R}", dag_id="{D}"),
    own("GET", "/gdi/data/jobs/~/{R}"),
    own("GET", "/execution/dag-runs/{D}/{R}/state"),
    own("GET", "/execution/xcoms/{D}/{R}/admit/mark"),
    own("GET", "/execution/connections/gdi"),
    own("POST", "/execution/dag-runs/{D}/{N}", {"conf": {}}),
    own("GET", "/execution/variables/gdi"),
    own("GET", "/auth/users/list/"),
    own("GET", "/auth/roles/list/"),
]

# What tells of no run: whether Airflow is well, its version, how to sign in; and to who is signed in, who they are and
# what their menu has.
FOR_ANYBODY = {
    f"{V2}/monitor/health",
    f"{V2}/version",
    f"{V2}/auth/login",
    f"{V2}/auth/logout",
    "/auth/logout",
    "/auth/token",
    "/auth/token/cli",
}
FOR_SIGNED_IN = {"/ui/auth/me", "/ui/auth/menus", "/ui/auth/token", "/ui/config", "/ui/teams"}


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Isolation]:
    made = start(tmp_path_factory.mktemp("isolation") / "team", "team")
    yield made
    made.close()


def of_other(name: str) -> str:
    return {"alice": "bob", "bob": "alice"}[name]


def told_of(answer: httpx.Response, of: Belongings) -> list[str]:
    """What of somebody's the answer holds."""
    return [word for word in (of.dag, of.run, of.mark, of.tag) if word in answer.text]


def filled(path: str, dag: str, run: str) -> str:
    """A path of Airflow's with its places filled in."""
    known = {"dag_id": dag, "dag_run_id": run, "run_id": run, "task_id": "admit", "map_index": "-1", "xcom_key": "mark"}
    return re.sub(r"\{(\w+)\}", lambda place: known.get(place[1], "1"), path)


def new_run(world: Isolation, of: Belongings, endpoint: Endpoint) -> str:
    if "{N}" not in endpoint.path + json.dumps(endpoint.body):
        return ""
    world.number += 1
    return world.trigger(of.dag, CONF, f"new-{world.number}-of-{of.run}")


@pytest.mark.parametrize("name", ["alice", "bob"])
@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=str)
def test_each_of_two_users_gets_their_own_and_nothing_of_the_others(
    team: Isolation, endpoint: Endpoint, name: str
) -> None:
    mine, others = team.belongings[name], team.belongings[of_other(name)]
    me, admin, new = team.clients[name], team.clients["admin"], new_run(team, others, endpoint)
    answer = endpoint.ask(me, others, new)
    if endpoint.kind == LIST:
        assert answer.is_success and told_of(answer, mine) and not told_of(answer, others), answer.text
        assert told_of(endpoint.ask(admin, mine), others)  # it is in the list, for who may see it
        return
    assert answer.status_code in CLOSED and others.mark not in answer.text, (
        f"{name} got {of_other(name)}'s: {answer.status_code} {answer.text[:500]}"
    )
    if endpoint.kind == OWN:
        answer = endpoint.ask(me, mine, new_run(team, mine, endpoint))
        assert answer.is_success and (not endpoint.shows or mine.mark in answer.text), (
            f"{name} did not get their own: {answer.status_code} {answer.text[:500]}"
        )
    else:
        assert endpoint.ask(me, mine, new).status_code in CLOSED
        answer = endpoint.ask(admin, others, new)
        assert answer.is_success, (
            f"nobody gets it, so that nothing was tested: {answer.status_code} {answer.text[:500]}"
        )


@pytest.mark.parametrize("name", ["alice", "bob"])
@pytest.mark.parametrize("endpoint", ROUND_ABOUT, ids=str)
def test_no_way_round_reaches_the_others_things(team: Isolation, endpoint: Endpoint, name: str) -> None:
    mine, others = team.belongings[name], team.belongings[of_other(name)]
    new = new_run(team, others, endpoint)
    before = team.picture(others, new)
    answer = endpoint.ask(team.clients[name], others, new, mine)
    if answer.is_success:
        said = json.dumps(answer.json()) if endpoint.method != "GET" else answer.text
        assert (
            others.mark not in said and others.tag not in said and not (endpoint.method == "GET" and others.dag in said)
        ), said[:1000]
    assert team.picture(others, new) == before


def test_the_front_page_counts_only_ones_own_runs(team: Isolation) -> None:
    counted = {}
    for name in ("alice", "bob", "admin"):
        answer = (
            team.clients[name]
            .get("/ui/dashboard/historical_metrics_data", params={"start_date": "2020-01-01T00:00:00Z"})
            .raise_for_status()
        )
        counted[name] = sum(answer.json()["dag_run_states"].values())
    own_runs = {
        n: team.clients[n].get(f"{V2}/dags/{team.belongings[n].dag}/dagRuns").raise_for_status().json()["total_entries"]
        for n in ("alice", "bob")
    }
    assert own_runs == {n: counted[n] for n in own_runs} and counted["admin"] >= sum(own_runs.values())


def test_a_run_carries_the_name_that_the_broker_compares_with_the_owner_of_grant_and_ticket(team: Isolation) -> None:
    mine = team.belongings["alice"]
    run = (
        team.clients["alice"]
        .post(f"{V2}/dags/{mine.dag}/dagRuns", json={**START, "dag_run_id": "named"})
        .raise_for_status()
    )
    assert run.json()["triggering_user_name"] == "alice"
    team.clients["admin"].delete(f"{V2}/dags/{mine.dag}/dagRuns/named").raise_for_status()


def test_of_all_that_airflow_answers_nothing_tells_one_team_of_another(team: Isolation) -> None:
    others = team.belongings["alice"]
    before = team.picture(others, others.run)
    for dag, run in ((others.dag, others.run), ("~", "~"), ("~", others.run)):
        for method, path in operations():
            body = {} if method == "GET" else {"json": {}}
            answer = team.clients["bob"].request(method, filled(path, dag, run), **body, follow_redirects=False)
            assert dag == "~" or "{dag_id}" not in path or not answer.is_success, (
                f"{method} {path}: {answer.status_code} {answer.text[:300]}"
            )
            assert not (answer.is_success and told_of(answer, others)), (
                f"{method} {path} with {dag}: {answer.text[:500]}"
            )
    assert team.picture(others, others.run) == before


def test_who_is_in_no_team_any_more_sees_nothing_and_other_teams_notice_nothing(team: Isolation) -> None:
    """The last test of this Airflow: it changes who may what."""
    assert "alice: gdi-team-red" in team.roles and "carol: no account in Airflow yet" in team.roles
    (team.folder.parent / "teams.yaml").write_text("blue: {members: [bob]}\n")
    done = team.python("-m", "gdi_operators.team_roles")
    assert (
        "alice: in no team any more" in done
        and f"gdi-team-red: no longer can_edit on DAG:{team.belongings['alice'].dag}" in done
    )
    mine = team.belongings["alice"]

    def refused() -> bool:  # FAB's api-server keeps a user's rights for [fab] cache_ttl, 30 s
        return team.clients["alice"].get(f"{V2}/dags/{mine.dag}/dagRuns/{mine.run}").status_code == 403

    wait_for("alice's rights to end", refused, timeout=60)
    assert team.clients["bob"].get(f"{V2}/dags/{team.belongings['bob'].dag}").is_success
    again = team.python("-m", "gdi_operators.team_roles")
    assert "no longer" not in again and "bob:" not in again and "alice:" not in again


# --- shared: Airflow is the operators' ----------------------------------------------------------


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Isolation]:
    made = start(tmp_path_factory.mktemp("isolation") / "shared", "shared")
    yield made
    made.close()


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=str)
def test_who_has_no_role_in_airflow_gets_nothing_not_even_of_their_own_run(
    shared: Isolation, endpoint: Endpoint
) -> None:
    of = shared.belongings["alice"]
    new = new_run(shared, of, endpoint)
    before = shared.picture(of, new)
    for name in ("nobody", "alice"):
        answer = endpoint.ask(shared.clients[name], of, new)
        assert answer.status_code in CLOSED and not told_of(answer, of), (
            f"{name}: {answer.status_code} {answer.text[:500]}"
        )
    assert shared.picture(of, new) == before
    answer = endpoint.ask(shared.clients["admin"], of, new)
    assert answer.is_success and (not endpoint.shows or of.mark in answer.text), (
        f"an operator: {answer.status_code} {answer.text[:500]}"
    )


def test_of_all_that_airflow_answers_only_what_tells_of_no_run_is_open_to_who_has_no_role(shared: Isolation) -> None:
    of = shared.belongings["alice"]
    before = shared.picture(of, of.run)
    open_to: dict[str, set[str]] = {"nobody": set(), "alice": set()}
    for dag, run in ((of.dag, of.run), ("~", "~")):
        for method, path in operations():
            for name, found in open_to.items():
                body = {} if method == "GET" else {"json": {}}
                answer = shared.clients[name].request(method, filled(path, dag, run), **body, follow_redirects=False)
                assert of.mark not in answer.text and not (answer.is_success and told_of(answer, of)), (
                    f"{method} {path}: {answer.text[:500]}"
                )
                if answer.is_success:
                    found.add(path)
    assert open_to["nobody"] <= FOR_ANYBODY and open_to["alice"] <= FOR_ANYBODY | FOR_SIGNED_IN
    assert shared.picture(of, of.run) == before
