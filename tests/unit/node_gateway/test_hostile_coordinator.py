"""A hostile coordinator gets no more than approved workflows, with parameters that their schemas allow, for users whose
visas it holds. Each attempt is refused by one rule, and admitted where that one rule does not stand in its way.
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
from node_gateway.agent.decision import RefusedOrder
from node_gateway.agent.duties import wanted_releases
from tests.support.hostile_coordinator import (
    DATASET,
    KEYS,
    Attempt,
    affiliation,
    approver,
    outcome,
    pack_of,
    signed,
    visa,
    workflow_yaml,
)

HERE = Path(tempfile.mkdtemp(prefix="gdi-hostile-"))
PACK = pack_of(HERE / "own")
OTHER = pack_of(HERE / "other", snakefile=b"rule steal:\n    shell: 'cat'\n")
LOOSE = pack_of(HERE / "loose", workflow_yaml(parameters={"command": {"type": "string", "title": "Command"}}))
TIGHT = {"parameters": {"chromosome": {"type": "string", "title": "C", "pattern": "^[0-9XY]{1,2}$"}}}
BOUNDED = pack_of(HERE / "bounded", workflow_yaml(**TIGHT))
ATTACKERS = [{"approved_by": "attacker"}]
BY = {"workflows": [{"approved_by": "reviewer"}, {"approved_by": "second"}]}
ONE, TWO = [approver()], [approver(), approver("second")]
YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
BOTH = [signed(PACK), signed(PACK, "second", "second")]
CONDITIONS = [[{"type": "ResearcherStatus", "value": "const:https://x"}]]


def reviewed(approvals: list[str], approvers: list[dict[str, Any]] = ONE, **policy: Any) -> Attempt:
    return Attempt(order={"approvals": approvals}, policy={**BY, "approvers": approvers, **policy})


# name: (the attempt, the node's reason, the same without the one rule in its way)
ATTEMPTS: dict[str, tuple[Attempt, str, Attempt]] = {
    "an order that another key signed": (
        Attempt(key=KEYS["attacker"]),
        "bad-order",
        Attempt(key=KEYS["attacker"], trusted=["attacker"]),
    ),
    "a question sent as an order": (Attempt(typ=o.QUESTION_TYPE), "bad-order", Attempt()),
    "a run token sent as an order": (Attempt(typ="run+jwt"), "bad-order", Attempt()),
    "an order for another node": (Attempt(aud="node-b"), "bad-order", Attempt()),
    "an order whose inside names another node": (Attempt(order={"node": "node-b"}), "bad-order", Attempt()),
    "an order that came as another run's": (Attempt(came={"run": "r-" + "1" * 20}), "bad-order", Attempt()),
    "an order that came as another kind": (Attempt(came={"kind": "close"}), "bad-order", Attempt()),
    "an order that came as another attempt": (Attempt(came={"attempt": 2}), "bad-order", Attempt()),
    "an order whose time is over": (Attempt(lifetime=-60), "bad-order", Attempt()),
    "an order without a user": (Attempt(order={"sub": ""}), "bad-order", Attempt()),
    "an attempt older than one that was taken": (Attempt(before=2), "order-older", Attempt(before=0)),
    "other files under the digest": (Attempt(files=OTHER), "workflow-files", Attempt(files=PACK)),
    "files that are no workflow": (
        Attempt(pack=b"Snakefile\x000\x00"),
        "workflow-files",
        Attempt(pack=PACK),
    ),
    "another workflow's name": (Attempt(order={"workflow": "other"}), "workflow-files", Attempt()),
    "another version": (Attempt(order={"version": "9"}), "workflow-files", Attempt()),
    "a workflow that nobody approved": (
        Attempt(policy={"workflows": []}),
        "workflow-not-approved",
        Attempt(policy={"workflows": ["*"]}),
    ),
    "a workflow by its name alone": (
        Attempt(policy={"workflows": ["counts"]}),
        "workflow-not-approved",
        Attempt(policy={"workflows": ["*"]}),
    ),
    "another version of an approved workflow": (
        Attempt(pack=OTHER, policy={"workflows": [{"name": "counts", "digest": "sha256:" + "0" * 64}]}),
        "workflow-not-approved",
        Attempt(pack=OTHER),
    ),
    "a blocked version, though approved": (
        Attempt(policy={"blocked": []}, order={"digest": "sha256:" + "0" * 64}),
        "workflow-files",
        Attempt(),
    ),
    "no signature": (reviewed([]), "workflow-not-approved", reviewed([signed(PACK)])),
    "a signature of a stranger": (
        reviewed([signed(PACK, "attacker", "reviewer")]),
        "workflow-not-approved",
        reviewed(
            [signed(PACK, "attacker", "attacker")], [approver("attacker")], workflows=[{"approved_by": "attacker"}]
        ),
    ),
    "a signature of a reviewer who was revoked": (
        reviewed([signed(PACK)], [approver(revoked=True)]),
        "workflow-not-approved",
        reviewed([signed(PACK)]),
    ),
    "a signature of a reviewer whose time is over": (
        reviewed([signed(PACK)], [approver(not_after=YESTERDAY)]),
        "workflow-not-approved",
        reviewed([signed(PACK)]),
    ),
    "a signature of a reviewer of other workflows": (
        reviewed([signed(PACK)], [approver(may=["other"])]),
        "workflow-not-approved",
        reviewed([signed(PACK)], [approver(may=["*"])]),
    ),
    "a signature over another version": (
        reviewed([signed(OTHER)]),
        "workflow-not-approved",
        reviewed([signed(PACK)]),
    ),
    "one signature where two are needed": (
        reviewed([signed(PACK)], TWO, signatures=2),
        "workflow-not-approved",
        reviewed([signed(PACK)], TWO, signatures=1),
    ),
    "the same reviewer twice where two are needed": (
        reviewed([signed(PACK), signed(PACK)], TWO, signatures=2),
        "workflow-not-approved",
        reviewed(BOTH, TWO, signatures=2),
    ),
    "a reviewer who is listed and not named": (
        reviewed([signed(PACK)], workflows=[{"approved_by": "second"}]),
        "workflow-not-approved",
        reviewed([signed(PACK)]),
    ),
    "parameters outside the schema": (
        Attempt(order={"parameters": {"regions": 1000}}),
        "parameters",
        Attempt(order={"parameters": {"regions": 8}}),
    ),
    "a parameter that is not declared": (Attempt(order={"parameters": {"more": 1}}), "parameters", Attempt()),
    "a parameter of another type": (
        Attempt(order={"parameters": {"regions": "$(id)"}}),
        "parameters",
        Attempt(order={"parameters": {"regions": 1}}),
    ),
    "a workflow with a text that may be anything": (
        Attempt(pack=LOOSE, order={"parameters": {"command": "cat /etc/passwd"}}),
        "parameters",
        Attempt(pack=BOUNDED, order={"parameters": {"chromosome": "X"}}),
    ),
    "no visa": (Attempt(visas=[]), "no-visa", Attempt()),
    "another user's visa": (
        Attempt(visas=[visa(claims={"sub": "bob@lifescience-ri.eu"})]),
        "visa-invalid",
        Attempt(visas=[visa(claims={"sub": "bob@lifescience-ri.eu"})], order={"sub": "bob@lifescience-ri.eu"}),
    ),
    "a visa for another dataset": (
        Attempt(visas=[visa(visa={"value": "EGAD9"})]),
        "no-visa",
        Attempt(visas=[visa(visa={"value": "EGAD9"})], order={"datasets": ["EGAD9"]}),
    ),
    "one visa for two datasets": (Attempt(order={"datasets": [DATASET, "EGAD9"]}), "no-visa", Attempt()),
    "a visa that ends within a minute": (Attempt(visas=[visa(lifetime=30)]), "visa-expired", Attempt()),
    "a visa of an issuer whom the node does not trust": (
        Attempt(policy={"visa_issuers": []}),
        "visa-untrusted",
        Attempt(),
    ),
    "a visa that names a key set of its own": (
        Attempt(visas=[visa(headers={"jku": "https://attacker.test/jwk"}, key=KEYS["attacker"])]),
        "visa-untrusted",
        Attempt(),
    ),
    "a visa of a source that the node does not take": (
        Attempt(
            policy={"visa_issuers": [{"iss": "https://rems.test/", "jku": "https://rems.test/jwk", "sources": ["x"]}]}
        ),
        "visa-untrusted",
        Attempt(),
    ),
    "a forged visa": (
        Attempt(visas=[visa(key=KEYS["attacker"])]),
        "visa-invalid",
        Attempt(visas=[visa(key=KEYS["attacker"])], rems=["attacker"]),
    ),
    "a visa of another type": (
        Attempt(visas=[visa(visa={"type": "ResearcherStatus"})]),
        "visa-invalid",
        Attempt(),
    ),
    "a visa whose conditions are not met": (
        Attempt(visas=[visa(visa={"conditions": CONDITIONS})]),
        "visa-invalid",
        Attempt(
            visas=[
                visa(visa={"conditions": CONDITIONS}),
                visa(visa={"type": "ResearcherStatus", "value": "https://x"}),
            ]
        ),
    ),
    "a dataset that the node does not serve": (Attempt(described=False), "dataset-unknown", Attempt()),
    "no dataset": (Attempt(order={"datasets": []}), "dataset-unknown", Attempt()),
    "a person whom the node does not serve": (
        Attempt(policy={"veto": {"users": ["alice@lifescience-ri.eu"]}}),
        "user-vetoed",
        Attempt(),
    ),
    "an organisation that the node does not serve": (
        Attempt(visas=[visa(), affiliation("faculty@Bad.org")], policy={"veto": {"organisations": ["bad.org"]}}),
        "organisation-vetoed",
        Attempt(visas=[visa(), affiliation("faculty@Bad.org")]),
    ),
    "an order to a node that starts nothing": (
        Attempt(policy={"placement": "coordinator"}),
        "placement",
        Attempt(),
    ),
}


def test_there_are_enough_of_them() -> None:
    assert len(ATTEMPTS) >= 30
    assert {reason for _, reason, _ in ATTEMPTS.values()} <= set(o.ORDER_REASONS)


@pytest.mark.parametrize("name", ATTEMPTS)
async def test_it_gets_nothing_by(name: str, tmp_path: Path) -> None:
    attempt, reason, without = ATTEMPTS[name]
    assert await outcome(tmp_path / "on", attempt) == reason
    assert await outcome(tmp_path / "off", without) == "admitted"


async def test_a_blocked_version_is_blocked_though_it_is_approved(tmp_path: Path) -> None:
    from gdi.kit.canonical import sha256_hex

    digest = "sha256:" + sha256_hex(PACK)
    assert await outcome(tmp_path / "on", Attempt(policy={"blocked": [digest]})) == "workflow-blocked"
    assert await outcome(tmp_path / "off", Attempt(policy={"blocked": []})) == "admitted"


async def test_a_release_of_what_was_not_computed_here_is_refused(tmp_path: Path) -> None:
    wanted = [{"name": "counts", "path": "counts.json", "kind": "allele-counts"}]
    release = Attempt(order={"kind": "release", "releases": wanted}, came={"kind": "release"})
    assert await outcome(tmp_path, release) == "release-unknown"


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
