"""A round's task as the node's TES gets it: for the node's own agent only, of the approved scripts; two nodes that
execute it are the regression of all people.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdi.contracts.descriptor import Descriptor
from gdi.contracts.packed_workflow import UnpackedWorkflow
from gdi.contracts.rounds import RoundsDeclaration
from gdi.contracts.workflow import Workflow
from gdi.kit.problem import ProblemError
from gdi.local_federation import phenotypes
from gdi.local_federation.federation import COHORT
from gdi.local_federation.parts.node import descriptor
from gdi.releases import declared
from gdi.releases.kind import Rules
from gdi.releases.matrix.merge import parse
from gdi.releases.matrix.newton import NewtonState, added, advance
from gdi.releases.matrix.round_merge import ReleasedRound
from node_gateway.agent.round_duty import round_task
from node_gateway.auth import Caller
from node_gateway.node_rounds import question_text
from node_gateway.own_tasks.rounds import need_own_agent, path_of, task_of
from node_gateway.policy import Policy
from tests.support.matrix_kit import ENTRY
from tests.support.pooled_regression import logistic
from tests.support.round_kit import RoundNode, question

RUN = "r-" + "ab" * 10
ROUNDS = RoundsDeclaration.model_validate(
    {
        "most": 20,
        "broadcast": {"beta": {"length": 40, "shorter": True, "low": -1e6, "high": 1e6}},
        "answer": "matrix",
        "script": "scripts/fit_round.py",
    }
)
SERVING: dict[str, Any] = {
    "images": ["task:*"],
    "releases": {"kinds": ["matrix"], "rounds": {"unattacked": "people of a test"}},
}
DEMO = [Descriptor.model_validate(descriptor("EGAD1"))]
RULES = Rules(
    5,
    10_000,
    levels=declared.levels(DEMO),
    numbers=declared.numbers(DEMO),
    bounds=declared.bounds(DEMO),
    membership="contract",
    rounds=True,
)
ASKED = question("diabetes:true", ["age", "bmi"])


def caller(**changes: Any) -> Caller:
    values = {"user": "u", "run": RUN, "node": "node-a", "attempt": 1, "workflow": "w", "digest": "d"}
    more = {"datasets": frozenset(), "scopes": frozenset({"releases"}), "generation": 0, "workload": "agent"}
    return Caller(**{**values, **more, "own": True, **changes})


@pytest.mark.parametrize(
    ("who", "policy", "slug"),
    [
        ({"own": False}, {}, "missing-scope"),
        ({}, {"placement": "coordinator"}, "missing-scope"),
        ({}, {"releases": {"kinds": ["matrix"]}}, "not-open"),
        ({}, {"images": ["other:*"]}, "forbidden-image"),
    ],
    ids=["a-token-of-the-centre", "the-centre's-snakemake", "no-rounds", "no-such-image"],
)
def test_nobody_but_the_nodes_own_agent_has_a_round_computed(
    who: dict[str, Any], policy: dict[str, Any], slug: str
) -> None:
    with pytest.raises(ProblemError) as caught:
        need_own_agent(caller(**who), Policy.model_validate(SERVING | policy), "task:1")
    assert caught.value.slug == slug
    need_own_agent(caller(), Policy.model_validate(SERVING), "task:1")


def executed(people: Path, beta: tuple[float, ...], number: int, folder: Path) -> bytes:
    """As a TES does, of the workflow's own scripts; what the task wrote."""
    scripts = {f"scripts/{file.name}": file.read_bytes() for file in (ENTRY / "scripts").glob("*.py")}
    workflow = {"name": "w", "title": "t", "version": "1", "needs": {"images": ["task:1"]}, "rounds": ROUNDS}
    files = UnpackedWorkflow(scripts, Workflow.model_validate(workflow))
    wish = round_task(files, ROUNDS, number, question_text(number, {"beta": beta}))
    policy = Policy.model_validate(SERVING)
    task = task_of(RUN, wish, "bucket", path_of(1, number), policy)
    paths: dict[str, str] = {}
    for one in task.inputs or ():
        place = folder / (one.path or "").removeprefix("/gdi/work/")
        place.parent.mkdir(parents=True, exist_ok=True)
        paths[one.path or ""] = str(place)
        if one.url:
            assert one.url == f"s3://bucket/{RUN}/rounds/people.json"
            place.write_bytes(people.read_bytes())
        else:
            place.write_text(one.content or "")
    (output,) = task.outputs or ()
    assert output.url == f"s3://bucket/{RUN}/gdi-rounds/1/{number}.json"
    paths[output.path] = str(folder / "out.json")
    command = [paths.get(word, word) for word in task.executors[0].command]
    subprocess.run([sys.executable, *command[1:]], check=True, cwd=folder, timeout=120)
    return (folder / "out.json").read_bytes()


def left_people(table: Path, folder: Path) -> Path:
    """What the analysis leaves at a node for its rounds."""
    asked = json.dumps({"person": "person", "model": "logistic", **ASKED})
    out, people = folder / "sums.json", folder / "people.json"
    for words in (
        ["read.py", table, folder / "read.json"],
        ["gather.py", out, folder / "read.json", "--people", people],
    ):
        script = [sys.executable, "-B", str(ENTRY / "scripts" / str(words[0])), *map(str, words[1:])]
        subprocess.run([*script, "--question", asked], check=True, timeout=120)
    assert json.loads(out.read_text())["round"]["beta"] == [0, 0, 0]
    return people


def test_two_nodes_rounds_by_the_workflows_scripts_are_the_regression_of_all_people(tmp_path: Path) -> None:
    everybody = phenotypes.simulate(COHORT)
    places, nodes = [], []
    for number in range(2):
        folder = tmp_path / f"node-{number}"
        folder.mkdir()
        phenotypes.write(everybody[number::2], folder / "samples.tsv")
        places.append((left_people(folder / "samples.tsv", folder), folder))
        nodes.append(RoundNode([], RULES))
    state = NewtonState((0.0, 0.0, 0.0))
    while not state.done:
        sums = []
        for (people, folder), node in zip(places, nodes, strict=True):
            found = parse("n", node.ask(executed(people, state.beta, state.number, folder)))
            assert isinstance(found, ReleasedRound), node.withheld
            sums.append(found.sums)
        state = advance(state, added(sums))
        assert state.number < 12
    x = np.array([[1.0, one.age, one.bmi] for one in everybody])
    beta, errors = logistic(x, np.array([float(one.diabetes == "true") for one in everybody]))
    for b, e, true, error in zip(state.beta, state.errors, beta, errors, strict=True):
        assert math.isclose(b, true, rel_tol=1e-6) and math.isclose(e, error, rel_tol=1e-6)
