"""A hostile coordinator gets no more than approved workflows, with parameters that their schemas allow, for users whose
visas it holds. Each attempt is refused by one rule, and the very same is admitted with that one rule off.
"""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path
from typing import Any

import pytest

from gdi.contracts import orders as o
from gdi.contracts.gateway_api import ReleaseRequest
from gdi.contracts.packed_workflow import unpacked
from gdi.kit.canonical import sha256_hex
from node_gateway.agent.decision import RefusedOrder
from node_gateway.agent.duties import wanted_releases
from tests.support.hostile_coordinator import (
    DATASET,
    ISS,
    JKU,
    KEYS,
    Attempt,
    affiliation,
    approver,
    link,
    outcome,
    pack_of,
    signed,
    visa,
    workflow_yaml,
)
from tests.support.hostile_rules import RULES

HERE = Path(tempfile.mkdtemp(prefix="gdi-hostile-"))
PACK = pack_of(HERE / "own")
OTHER = pack_of(HERE / "other", snakefile=b"rule steal:\n    shell: 'cat'\n")
LOOSE = pack_of(HERE / "loose", workflow_yaml(parameters={"command": {"type": "string", "title": "Command"}}))
BY = {"workflows": [{"approved_by": "reviewer"}, {"approved_by": "second"}]}
ONE, TWO = [approver()], [approver(), approver("second")]
YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
DIGEST = "sha256:" + sha256_hex(PACK)
BOB = "bob@lifescience-ri.eu"
PROJECT = "https://gdi.test/ProjectMembership"
PROJECTS = {"projects": ["p-13"], "project_visas": [PROJECT]}
CONDITIONS = [[{"type": "ResearcherStatus", "value": "const:https://x"}]]

LINKS = {"visa_issuers": [{"iss": ISS, "jku": JKU, "links": True}]}

LATER = {"attempt": 2}
FEMALE = {"cohort": {"split": "sex", "level": "female"}}
RELEASE = [{"name": "counts", "path": "counts.json", "kind": "allele-counts"}]


def reviewed(approvals: list[str], approvers: list[dict[str, Any]] = ONE, **policy: Any) -> Attempt:
    return Attempt(order={"approvals": approvals}, policy={**BY, "approvers": approvers, **policy})


# name: (the attempt, the node's reason, the one rule without which it is admitted: tests/support/hostile_rules.py)
ATTEMPTS: dict[str, tuple[Attempt, str, str]] = {
    "an order that another key signed": (Attempt(key=KEYS["attacker"]), "bad-order", "the broker's signature"),
    "a question sent as an order": (Attempt(typ=o.QUESTION_TYPE), "bad-order", "the token's type"),
    "a run token sent as an order": (Attempt(typ="run+jwt"), "bad-order", "the token's type"),
    "an order for another node": (Attempt(aud="node-b"), "bad-order", "the audience"),
    "an order whose inside names another node": (
        Attempt(order={"node": "node-b"}),
        "bad-order",
        "the same order inside",
    ),
    "an order that came as another run's": (
        Attempt(came={"run": "r-" + "1" * 20}),
        "bad-order",
        "the same order inside",
    ),
    "an order that came as another kind": (Attempt(came={"kind": "close"}), "bad-order", "the same order inside"),
    "an order that came as another attempt": (Attempt(came={"attempt": 2}), "bad-order", "the same order inside"),
    "an order whose time is over": (Attempt(lifetime=-60), "bad-order", "the end"),
    "an order without a user": (
        Attempt(order={"sub": ""}, visas=[visa(claims={"sub": ""})]),
        "bad-order",
        "a user",
    ),
    "an order of a kind that there is not": (
        Attempt(order={"kind": "shell"}, came={"kind": "shell"}),
        "bad-order",
        "kinds of orders",
    ),
    "an attempt older than one that was taken": (Attempt(before=2), "order-older", "the newest attempt"),
    "other parameters in a later attempt": (
        Attempt(order=LATER | {"parameters": {"regions": 3}}, came=LATER, analysed={"parameters": {}}),
        "order-differs",
        "one analysis of a run",
    ),
    "other people in a later attempt": (
        Attempt(order=LATER, came=LATER, analysed={"parameters": FEMALE}),
        "order-differs",
        "one analysis of a run",
    ),
    "other datasets in a later attempt": (
        Attempt(order=LATER, came=LATER, analysed={"datasets": ["EGAD7", "EGAD8"]}),
        "order-differs",
        "one analysis of a run",
    ),
    "another version in a later attempt": (
        Attempt(order=LATER, came=LATER, analysed={"digest": "sha256:" + "0" * 64}),
        "order-differs",
        "one analysis of a run",
    ),
    "the same order twice": (Attempt(sent=2), "order-replayed", "an order once"),
    "other files under the digest": (Attempt(files=OTHER), "workflow-files", "the files' digest"),
    "files that are no workflow": (Attempt(pack=b"Snakefile\x000\x00"), "workflow-files", "the files' form"),
    "another workflow's name": (
        Attempt(order={"workflow": "other"}, policy={"workflows": [{"name": "other", "digest": DIGEST}]}),
        "workflow-files",
        "the files' own name",
    ),
    "another version": (Attempt(order={"version": "9"}), "workflow-files", "the files' own name"),
    "a workflow that nobody approved": (Attempt(policy={"workflows": []}), "workflow-not-approved", "approval"),
    "a workflow by its name alone": (Attempt(policy={"workflows": ["counts"]}), "workflow-not-approved", "approval"),
    "another version of an approved workflow": (
        Attempt(pack=OTHER, policy={"workflows": [{"name": "counts", "digest": "sha256:" + "0" * 64}]}),
        "workflow-not-approved",
        "approval",
    ),
    "a blocked version, though approved": (
        Attempt(policy={"blocked": [DIGEST]}),
        "workflow-blocked",
        "blocked versions",
    ),
    "no signature": (reviewed([]), "workflow-not-approved", "approval"),
    "a signature of a stranger": (
        reviewed([signed(PACK, "attacker", "reviewer")]),
        "workflow-not-approved",
        "a reviewer's signature",
    ),
    "a signature of a reviewer who was revoked": (
        reviewed([signed(PACK)], [approver(revoked=True)]),
        "workflow-not-approved",
        "revoked keys",
    ),
    "a signature of a reviewer whose time is over": (
        reviewed([signed(PACK)], [approver(not_after=YESTERDAY)]),
        "workflow-not-approved",
        "keys' time",
    ),
    "a signature by a reviewer's key of before, after its time": (
        reviewed(
            [signed(PACK, "second", "reviewer")],
            [approver(other_keys=[{"key": KEYS["second"].jwk(), "not_after": YESTERDAY}])],
        ),
        "workflow-not-approved",
        "keys' time",
    ),
    "a signature of a reviewer of other workflows": (
        reviewed([signed(PACK)], [approver(may=["other"])]),
        "workflow-not-approved",
        "whose workflows a reviewer may approve",
    ),
    "a signature over another version": (
        reviewed([signed(OTHER)]),
        "workflow-not-approved",
        "the version that was signed",
    ),
    "one signature where two are needed": (
        reviewed([signed(PACK)], TWO, signatures=2),
        "workflow-not-approved",
        "as many signatures",
    ),
    "the same reviewer twice where two are needed": (
        reviewed([signed(PACK), signed(PACK)], TWO, signatures=2),
        "workflow-not-approved",
        "one signature of a person",
    ),
    "the same reviewer by two keys where two are needed": (
        reviewed(
            [signed(PACK), signed(PACK, "second", "reviewer")],
            [approver(other_keys=[{"key": KEYS["second"].jwk()}])],
            signatures=2,
        ),
        "workflow-not-approved",
        "one signature of a person",
    ),
    "a reviewer who is listed and not named": (
        reviewed([signed(PACK)], workflows=[{"approved_by": "second"}]),
        "workflow-not-approved",
        "reviewers whom the policy names",
    ),
    "parameters outside the schema": (
        Attempt(order={"parameters": {"regions": 1000}}),
        "parameters",
        "the parameters' schema",
    ),
    "a parameter that is not declared": (
        Attempt(order={"parameters": {"more": 1}}),
        "parameters",
        "declared parameters",
    ),
    "a parameter of another type": (
        Attempt(order={"parameters": {"regions": "$(id)"}}),
        "parameters",
        "the parameters' schema",
    ),
    "a workflow with a text that may be anything": (
        Attempt(pack=LOOSE, order={"parameters": {"command": "cat /etc/passwd"}}),
        "parameters",
        "texts that are bounded",
    ),
    "a cohort that the workflow cannot analyse": (
        Attempt(order={"parameters": FEMALE}),
        "parameters",
        "cohorts that the workflow takes",
    ),
    "people by an expression": (
        Attempt(order={"parameters": {"cohort": {"where": "age > 40"}}}),
        "parameters",
        "cohorts that the workflow takes",
    ),
    "an epoch that nobody opened": (
        Attempt(order={"parameters": {"cohort": {"epochs": {DATASET: 7}}}}),
        "not-open",
        "cohorts that are open",
    ),
    "no visa": (Attempt(visas=[]), "no-visa", "a visa"),
    "another user's visa": (Attempt(visas=[visa(claims={"sub": BOB})]), "visa-invalid", "whose visa it is"),
    "a visa for another dataset": (Attempt(visas=[visa(visa={"value": "EGAD9"})]), "no-visa", "the visa's dataset"),
    "one visa for two datasets": (Attempt(order={"datasets": [DATASET, "EGAD9"]}), "no-visa", "the visa's dataset"),
    "a visa that ends within a minute": (Attempt(visa_lifetime=30), "visa-expired", "a visa's last minute"),
    "a visa of an issuer whom the node does not trust": (
        Attempt(policy={"visa_issuers": []}),
        "visa-untrusted",
        "trusted issuers",
    ),
    "a visa that names a key set of its own": (
        Attempt(visas=[visa(headers={"jku": "https://attacker.test/jwk"}, key=KEYS["attacker"])]),
        "visa-untrusted",
        "trusted issuers",
    ),
    "a visa of a source that the node does not take": (
        Attempt(
            policy={"visa_issuers": [{"iss": "https://rems.test/", "jku": "https://rems.test/jwk", "sources": ["x"]}]}
        ),
        "visa-untrusted",
        "trusted sources",
    ),
    "a forged visa": (Attempt(visas=[visa(key=KEYS["attacker"])]), "visa-invalid", "the visa's signature"),
    "a visa of another type": (
        Attempt(visas=[visa(visa={"type": "ResearcherStatus"})]),
        "visa-invalid",
        "the visa's type",
    ),
    "a visa whose conditions are not met": (
        Attempt(visas=[visa(visa={"conditions": CONDITIONS})]),
        "visa-invalid",
        "conditions",
    ),
    "a dataset that the node does not serve": (
        Attempt(described=False),
        "dataset-unknown",
        "datasets that are served",
    ),
    "no dataset": (Attempt(order={"datasets": []}), "dataset-unknown", "datasets that are served"),
    "a person whom the node does not serve": (
        Attempt(policy={"veto": {"users": ["alice@lifescience-ri.eu"]}}),
        "user-vetoed",
        "veto",
    ),
    "an organisation that the node does not serve": (
        Attempt(visas=[visa(), affiliation("faculty@Bad.org")], policy={"veto": {"organisations": ["bad.org"]}}),
        "organisation-vetoed",
        "veto",
    ),
    "an organisation's visa that is left out": (
        Attempt(policy={"veto": {"organisations": ["bad.org"]}}),
        "organisation-vetoed",
        "veto",
    ),
    "a project that the node does not serve": (
        Attempt(visas=[visa(), visa(visa={"type": PROJECT, "value": "p-13"})], policy={"veto": PROJECTS}),
        "project-vetoed",
        "veto",
    ),
    "a vetoed user under another identity": (
        Attempt(visas=[link(BOB), visa(claims={"sub": BOB})], policy={**LINKS, "veto": {"users": [BOB]}}),
        "user-vetoed",
        "veto",
    ),
    "a vetoed organisation under another identity": (
        Attempt(
            visas=[link("bob@bad.org"), visa(claims={"sub": "bob@bad.org"}), affiliation("faculty@good.org")],
            policy={**LINKS, "veto": {"organisations": ["bad.org"]}},
        ),
        "organisation-vetoed",
        "veto",
    ),
    "a project's visa that is left out": (Attempt(policy={"veto": PROJECTS}), "project-vetoed", "veto"),
    "an order to a node that starts nothing": (
        Attempt(policy={"placement": "coordinator"}),
        "placement",
        "placement",
    ),
    "a release of what was not computed here": (
        Attempt(order={"kind": "release", "releases": RELEASE}, came={"kind": "release"}),
        "release-unknown",
        "what was computed here",
    ),
    "a release that the workflow does not declare": (
        Attempt(order={"kind": "release", "releases": [{**RELEASE[0], "name": "genotypes"}]}, came={"kind": "release"}),
        "release-unknown",
        "declared releases",
    ),
}


def test_there_are_enough_of_them() -> None:
    assert len(ATTEMPTS) >= 50
    assert {reason for _, reason, _ in ATTEMPTS.values()} <= set(o.ORDER_REASONS)
    assert {rule for *_, rule in ATTEMPTS.values()} == set(RULES)


@pytest.mark.parametrize("name", ATTEMPTS)
async def test_it_gets_nothing_by(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt, reason, rule = ATTEMPTS[name]
    assert await outcome(tmp_path / "on", attempt) == reason
    RULES[rule](monkeypatch)
    assert await outcome(tmp_path / "off", attempt) == "admitted"


async def test_one_that_hides_nothing_is_admitted(tmp_path: Path) -> None:
    project = visa(visa={"type": PROJECT, "value": "p-1"})
    kept = approver("second", id="reviewer", other_keys=[{"key": KEYS["reviewer"].jwk()}])
    for number, attempt in enumerate(
        (
            Attempt(),
            Attempt(visas=[visa(), affiliation("faculty@good.org")], policy={"veto": {"organisations": ["bad.org"]}}),
            Attempt(order=LATER, came=LATER, analysed=LATER | {"attempt": 1}),  # as the attempt before
            Attempt(visas=[visa(), project], policy={"veto": PROJECTS}),
            Attempt(visas=[link(BOB), visa(claims={"sub": BOB})], policy={**LINKS, "veto": {"users": ["eve@bad.org"]}}),
            reviewed([signed(PACK)], [kept]),  # by the key of before, which still counts
            reviewed([signed(PACK), signed(PACK, "second", "second")], TWO, signatures=2),
        )
    ):
        assert await outcome(tmp_path / str(number), attempt) == "admitted", number


def test_what_is_released_is_what_the_workflow_declares() -> None:
    workflow = unpacked(PACK).workflow
    hostile = ReleaseRequest(name="counts", path="cohort.vcf", kind="matrix", review=False)
    assert wanted_releases([hostile], workflow, approved=True) == [
        ReleaseRequest(name="counts", path="counts.json", kind="allele-counts", review=False)
    ]
    assert wanted_releases([hostile], workflow, approved=False)[0].review, "a person looks"
    for names in (["genotypes"], []):
        with pytest.raises(RefusedOrder):
            wanted_releases([hostile.model_copy(update={"name": n}) for n in names], workflow, approved=True)
