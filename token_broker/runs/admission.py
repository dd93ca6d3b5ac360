"""Whether a user may read these datasets now: the passport is read, every visa validated, each dataset's node found. A
plan, or a refusal that names all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gdi.contracts.committees import STOPPED
from gdi.contracts.refusals import AccessRefusal
from gdi.contracts.runs import PlanItem
from gdi.kit.problem import ProblemError
from gdi.oauth.client import OAuthClient
from gdi.oauth.errors import OAuthDenied, OAuthUnavailable
from gdi.visas.visas import SENTENCES, Visa, Visas
from token_broker.audit import Audit
from token_broker.committees.stops import Stops, stopped
from token_broker.enrolment import EnrolmentFile
from token_broker.tokens.token_refresher import TokenRefresher, provider_away


class Admission:
    def __init__(
        self,
        refresher: TokenRefresher,
        oidc: OAuthClient,
        visas: Visas,
        enrolment: EnrolmentFile,
        audit: Audit,
        stops: Stops,
        *,
        narrows: bool,
    ) -> None:
        """`narrows`: the provider makes tokens that serve at one node only."""
        self._keeper, self._oidc, self._visas, self._enrolment, self._audit = refresher, oidc, visas, enrolment, audit
        self._stops, self._narrows = stops, narrows

    async def plan(self, *, grant: str, user: str, datasets: list[str], run: str) -> list[PlanItem]:
        """The nodes and when access ends there. 403 `access-denied` with a refusal for each dataset that fails; 503
        where it could not be found out.
        """
        passport = await self._visas.passport(await self._userinfo(grant, user), user)
        enrolment = self._enrolment.current
        refusals: list[AccessRefusal] = []
        items: dict[str, PlanItem] = {}
        unclear: list[str] = []
        halted = await self._stops.of_person(passport.people, datasets)
        for dataset in datasets:
            node = enrolment.node_of(dataset)
            if node is None:
                check = "Check the dataset's id in the catalogue."
                refusals.append(AccessRefusal(dataset=dataset, node=None, reason="unknown-dataset", how_to_apply=check))
                continue
            if dataset in halted:
                ask = f"Ask the access committee {halted[dataset].committee}."
                refusals.append(AccessRefusal(dataset=dataset, node=node.id, reason=STOPPED, how_to_apply=ask))
                continue
            found = passport.access(dataset)
            if not isinstance(found, Visa):
                if found == "issuer-unavailable":
                    unclear.append(dataset)
                else:
                    refusal = AccessRefusal(
                        dataset=dataset,
                        node=node.id,
                        reason=found,
                        how_to_apply=node.application,
                        apply_url=node.apply_for(dataset),
                    )
                    refusals.append(refusal)
                continue
            await self._audit.record(
                "broker",
                "run.admit",
                owner=user,
                run=run,
                grant=grant,
                dataset=dataset,
                node=node.id,
                visa=found.summary(),
            )
            item = items.get(node.id)
            if item is None:
                items[node.id] = PlanItem(
                    node=node.id,
                    datasets=[dataset],
                    access_ends_at=found.ends_at,
                    gateway_url=node.gateway_url,
                    audience=node.audience,
                    public_key=node.public_key,
                    other_keys=node.other_keys,
                    placement=node.placement,
                )
            else:
                item.datasets.append(dataset)
                item.access_ends_at = min(item.access_ends_at, found.ends_at)
        if refusals:
            raise await self._refuse(refusals, grant, user, run)
        if unclear:
            raise ProblemError(
                503,
                "visa-issuer-unavailable",
                f"The key set of the issuer of your visas cannot be had: {', '.join(unclear[:10])}.",
                action="Try again in a minute; tell the operator if it stays.",
            )
        self._expect_narrow(items.values(), grant)
        return [items[node] for node in sorted(items)]

    def _expect_narrow(self, items: Iterable[PlanItem], grant: str) -> None:
        """A node that believes nobody is given no token that serves elsewhere, whatever the operator accepted."""
        own = [] if self._narrows else [item.node for item in items if item.placement == "node"]
        if own:
            raise broad_tokens(own[0], grant)

    async def visas(self, *, grant: str, user: str, datasets: list[str]) -> list[str]:
        """The signed visas by which the user may read these datasets now. 403 `access-denied` where one is missing,
        `stopped-by-committee` where the person is stopped, by one of their identities.
        """
        passport = await self._visas.passport(await self._userinfo(grant, user), user)
        for dataset, stop in (await self._stops.of_person(passport.people, datasets)).items():
            raise stopped(f"your use of {dataset}", stop)
        for dataset in datasets:
            found = passport.access(dataset)
            if not isinstance(found, Visa):
                raise ProblemError(
                    403,
                    "access-denied",
                    f"No access to {dataset}: {SENTENCES.get(found, found)} ({found}).",
                    action="Apply for access again, then start again.",
                )
        return passport.tokens_for(datasets)

    async def _userinfo(self, grant: str, user: str) -> dict[str, Any]:
        access = await self._keeper.access(grant)
        try:
            userinfo = await self._oidc.userinfo(access.token)
        except OAuthDenied as error:
            raise ProblemError(
                502, "userinfo-refused", str(error), action="Try again; if it stays, sign in and give consent again."
            ) from None
        except OAuthUnavailable as error:
            raise provider_away(error) from None
        if userinfo.get("sub") != user:
            raise ProblemError(
                403,
                "grant-not-yours",
                "The identity provider names another user for this grant.",
                action="Sign in and give consent again.",
            )
        return userinfo

    async def _refuse(self, refusals: list[AccessRefusal], grant: str, user: str, run: str) -> ProblemError:
        for r in refusals:
            await self._audit.record(
                "broker",
                "run.admit",
                allowed=False,
                owner=user,
                run=run,
                grant=grant,
                dataset=r.dataset,
                node=r.node,
                reason=r.reason,
            )
        parts = [
            f"{r.dataset}{' at ' + r.node if r.node else ''}: {SENTENCES.get(r.reason, r.reason)} ({r.reason})"
            for r in refusals[:20]
        ]
        more = f"; and {len(refusals) - 20} more" if len(refusals) > 20 else ""
        return ProblemError(
            403,
            "access-denied",
            f"No access to {'; '.join(parts)}{more}.",
            action=_apply(refusals[0]) + " Then start again.",
            refusals=[r.model_dump() for r in refusals],
        )


def broad_tokens(node: str, grant: str) -> ProblemError:
    return ProblemError(
        403,
        "narrowing-refused",
        f"Node {node} starts Snakemake itself and takes only user tokens that serve nowhere else, which this identity"
        " provider does not make.",
        action="The broker's operator has the provider exchange tokens (NARROWING), or the node is placed at the"
        " coordinator.",
        node=node,
        grant=grant,
    )


def _apply(refusal: AccessRefusal) -> str:
    return refusal.how_to_apply + (f" The application: {refusal.apply_url}" if refusal.apply_url else "")
