"""What a policy allows in each placement, and what is told of it."""

from __future__ import annotations

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
