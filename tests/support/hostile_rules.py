"""Each of the node's rules about orders, switched off by itself: what a hostile coordinator gets where that one rule is
missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jwt
import pytest

from gdi.contracts import approval
from gdi.contracts.cohorts import CohortChoice
from gdi.contracts.orders import OrderClaims, QuestionClaims
from gdi.contracts.packed_workflow import UnpackedWorkflow
from gdi.contracts.workflow import Workflow
from gdi.kit.jose import RemoteKeys, verify
from gdi.visas import visas
from gdi.visas.issuer import VisaIssuer
from gdi.visas.visas import Passport, Visa, Visas
from node_gateway import workflow_policy
from node_gateway.agent import decision, judge
from node_gateway.agent.judge import Judge, VisaProofs
from node_gateway.node_orders import NodeOrders
from node_gateway.policy import Policy
from node_gateway.workflow_policy import Approver, ReviewersKey

Patch = pytest.MonkeyPatch
RULES: dict[str, Callable[[Patch], None]] = {}


def rule(name: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def known(off: Callable[[Patch], None]) -> Callable[[Patch], None]:
        RULES[name] = off
        return off

    return known


def nothing(*_: Any, **__: Any) -> None:
    return None


async def nothing_async(*_: Any, **__: Any) -> None:
    return None


def read_without(name: str, off: str) -> Callable[[Patch], None]:
    """The broker's tokens are read without one of PyJWT's checks; the others are made."""

    async def loose(
        self: RemoteKeys, token: str, *, issuer: str, audience: str | None, typ: str | None = None
    ) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        options: Any = {f"verify_{what}": True for what in ("signature", "exp", "aud", "iss")}
        options[f"verify_{off}"] = False
        keys = await self.keys(kid=header.get("kid")) if options["verify_signature"] else [{}]
        key: Any = jwt.PyJWK(keys[0]) if keys[0] else ""
        claims = jwt.decode(token, key, algorithms=["ES256"], issuer=issuer, audience=audience, options=options)
        assert header["typ"] == typ
        return dict(claims)

    def patched(patch: Patch) -> None:
        patch.setattr(RemoteKeys, "verify", loose)

    RULES[name] = patched
    return patched


read_without("the broker's signature", "signature")
read_without("the audience", "aud")
read_without("the end", "exp")


@rule("the token's type")
def _type(patch: Patch) -> None:
    ours = RemoteKeys.verify

    async def any_type(self: RemoteKeys, token: str, **wanted: Any) -> dict[str, Any]:
        return await ours(self, token, **{**wanted, "typ": None})

    patch.setattr(RemoteKeys, "verify", any_type)


@rule("a user")
def _user(patch: Patch) -> None:
    class AnySub(OrderClaims):
        sub: str

    patch.setattr(judge, "OrderClaims", AnySub)


@rule("kinds of orders")
def _kinds(patch: Patch) -> None:
    class AnyKind(OrderClaims):
        kind: str  # type: ignore[assignment]

    patch.setattr(judge, "OrderClaims", AnyKind)


SKIPPED: dict[str, tuple[Any, str]] = {
    "the same order inside": (judge, "need_same_order"),
    "the files' own name": (decision, "need_same_workflow"),
    "declared parameters": (decision, "need_declared"),
    "placement": (decision, "need_placement"),
    "veto": (decision, "need_welcome"),
}
for _name, (_module, _function) in SKIPPED.items():
    RULES[_name] = lambda patch, m=_module, f=_function: patch.setattr(m, f, nothing)  # type: ignore[misc]


@rule("blocked versions")
def _blocked(patch: Patch) -> None:
    patch.setattr(decision, "need_unblocked", nothing)
    patch.setattr(Policy, "allows_workflow", lambda *_: True)  # asks once more


@rule("the newest attempt")
def _newest(patch: Patch) -> None:
    patch.setattr(Judge, "not_older", nothing_async)


@rule("an order once")
def _once(patch: Patch) -> None:
    async def added(*_: Any) -> bool:
        return True

    patch.setattr(NodeOrders, "add", added)


@rule("what was computed here")
def _computed(patch: Patch) -> None:
    patch.setattr(Judge, "analysed", nothing_async)


@rule("one analysis of a run")
def _one_analysis(patch: Patch) -> None:
    patch.setattr(judge, "need_same_analysis", lambda claims, parameters, earlier: parameters)


@rule("declared releases")
def _declared(patch: Patch) -> None:
    from tests.support import hostile_coordinator

    patch.setattr(hostile_coordinator, "wanted_releases", nothing)
    patch.setattr(Judge, "analysed", nothing_async)  # the attempt is about the name


@rule("the files' digest")
def _digest(patch: Patch) -> None:
    patch.setattr(judge, "has_digest", lambda *_: True)


@rule("the files' form")
def _form(patch: Patch) -> None:
    from tests.support.hostile_coordinator import SNAKEFILE, workflow_yaml

    def anything(_: bytes) -> UnpackedWorkflow:
        return UnpackedWorkflow({"Snakefile": SNAKEFILE}, Workflow.model_validate(workflow_yaml()))

    patch.setattr(judge, "unpacked", anything)


@rule("approval")
def _approval(patch: Patch) -> None:
    patch.setattr(decision, "need_approval", lambda *_: "policy")


@rule("a reviewer's signature")
def _signature(patch: Patch) -> None:
    patch.setattr(decision, "_signed", lambda *_: True)


@rule("the version that was signed")
def _version(patch: Patch) -> None:
    def any_version(token: str, key_id: str, key: dict[str, Any], _: Any) -> None:
        verify(token, [key], issuer=key_id, audience=None, typ=approval.TYPE)

    patch.setattr(approval, "check", any_version)


@rule("revoked keys")
def _revoked(patch: Patch) -> None:
    patch.setattr(ReviewersKey, "counts", property(lambda self: self.not_after is None))


@rule("keys' time")
def _time(patch: Patch) -> None:
    patch.setattr(workflow_policy, "_end", lambda _: float("inf"))


@rule("whose workflows a reviewer may approve")
def _may(patch: Patch) -> None:
    patch.setattr(Approver, "keys_for", lambda self, _: [self.key])


@rule("reviewers whom the policy names")
def _named(patch: Patch) -> None:
    patch.setattr(decision, "_named", lambda policy: {one.id for one in policy.approvers})


@rule("as many signatures")
def _enough(patch: Patch) -> None:
    patch.setattr(decision, "_enough", lambda *_: True)


@rule("one signature of a person")
def _twice(patch: Patch) -> None:
    def by_signature(claims: QuestionClaims, *_: Any) -> set[str]:
        return {f"reviewer {number}" for number, _ in enumerate(claims.approvals)}

    patch.setattr(decision, "_signers", by_signature)


@rule("the parameters' schema")
def _schema(patch: Patch) -> None:
    patch.setattr(Workflow, "check_parameters", lambda *_: [])


@rule("cohorts that the workflow takes")
def _cohorts(patch: Patch) -> None:
    patch.setattr(decision, "need_cohort", lambda *_: CohortChoice())


@rule("cohorts that are open")
def _open(patch: Patch) -> None:
    patch.setattr(Judge, "_open", nothing_async)


@rule("texts that are bounded")
def _texts(patch: Patch) -> None:
    patch.setattr(approval, "loose_parameters", lambda _: [])


@rule("datasets that are served")
def _served(patch: Patch) -> None:
    patch.setattr(decision, "need_served", nothing)
    patch.setattr(Judge, "_open", nothing_async)  # asks for the descriptor once more
    patch.setattr(judge, "_proofs", lambda *_: VisaProofs(float("inf"), {}))  # of no dataset


@rule("a visa")
def _visa(patch: Patch) -> None:
    patch.setattr(decision, "need_access", nothing)
    patch.setattr(judge, "_proofs", lambda *_: VisaProofs(float("inf"), {}))


def access_without(name: str, found: Callable[[Passport, str], Visa | None]) -> None:
    def off(patch: Patch) -> None:
        patch.setattr(Passport, "access", lambda self, dataset, lasting=60.0: found(self, dataset) or "no-visa")

    RULES[name] = off


access_without("the visa's dataset", lambda passport, _: next(iter(passport.visas), None))
access_without(
    "the visa's type", lambda passport, dataset: next((v for v in passport.visas if v.value == dataset), None)
)


@rule("a visa's last minute")
def _minute(patch: Patch) -> None:
    ours = Passport.access
    patch.setattr(Passport, "access", lambda self, dataset: ours(self, dataset, lasting=0))


@rule("conditions")
def _conditions(patch: Patch) -> None:
    patch.setattr(visas, "conditions_met", lambda *_: True)


@rule("whose visa it is")
def _whose(patch: Patch) -> None:
    ours = Visas._visa
    patch.setattr(Visas, "_visa", lambda self, proved, _: ours(self, proved, proved.claims["sub"]))


@rule("the visa's signature")
def _forged(patch: Patch) -> None:
    def unproven(token: str, *_: Any, **__: Any) -> dict[str, Any]:
        return dict(jwt.decode(token, options={"verify_signature": False}))

    patch.setattr(visas, "decoded", unproven)


@rule("trusted issuers")
def _issuers(patch: Patch) -> None:
    patch.setattr(Visas, "_issuer", lambda _, iss, jku: VisaIssuer(iss=iss, jku=jku))


@rule("trusted sources")
def _sources(patch: Patch) -> None:
    ours = Visas._issuer

    def any_source(self: Visas, iss: object, jku: object) -> VisaIssuer | None:
        found = ours(self, iss, jku)
        return None if found is None else found.model_copy(update={"sources": []})

    patch.setattr(Visas, "_issuer", any_source)
