"""What a policy allows in each placement, and what is told of it."""

from __future__ import annotations

from gdi.contracts.descriptor import Descriptor
from node_gateway import explanation
from node_gateway.policy import Policy


def test_what_a_node_does_not_allow_is_told_without_whom_it_vetoes() -> None:
    sentences = explanation.limits(
        Policy.model_validate(
            {
                "workflows": [{"approved_by": "ann"}],
                "releases": {"kinds": ["allele-counts"]},
                "review": True,
                "veto": {"users": ["mallory@bad.org"]},
            }
        )
    )
    assert sentences == [
        "Only approved workflows run (1 entries).",
        "Only releases of the kind allele-counts leave.",
        "No number about fewer than 5 people leaves.",
        "A person looks at each release.",
        "Some persons, organisations or projects are not served.",
    ]
    terms = {"dataset": "DS1", "assembly": "GRCh37", "membership": "contract", "use": ["DUO:0000006", "DUO:0000021"]}
    described = [Descriptor.model_validate(terms), Descriptor.model_validate({**terms, "dataset": "DS2", "use": []})]
    told = "health or medical or biomedical research (DUO:0000006), ethics approval required (DUO:0000021)"
    assert explanation.limits(Policy(), described)[-1] == f"DS1 may be used for: {told}."
    assert f"Dataset DS1: its data use terms are {told}." in explanation.of_descriptor(described[0])
    assert len(explanation.limits(Policy(), described[:1] * 50)) == 20, "what a heartbeat takes"
    closed = explanation.limits(Policy())
    assert closed[:2] == ["No workflow is approved.", "Nothing may leave."]
    unattested = Policy(placement="coordinator")
    assert "A person looks at each release." in explanation.limits(unattested) and unattested.unattested
    accepted = Policy(placement="coordinator", accept_unattested="one organisation runs both")
    assert not accepted.unattested and "A person looks at each release." not in explanation.limits(accepted)
    assert any("one organisation runs both" in one for one in explanation.of_policy(accepted))


def test_without_a_reason_nothing_is_approved_by_a_name_that_the_coordinator_says() -> None:
    digest = "sha256:" + "0" * 64
    named = {"workflows": ["counts"], "placement": "coordinator"}
    assert not Policy.model_validate(named).approves("counts", digest)
    assert not Policy.model_validate({**named, "accept_unattested": "   "}).approves("counts", digest)
    assert Policy.model_validate({**named, "accept_unattested": "why"}).approves("counts", digest)
