"""Which grant a start stands on: the one that its user names, one that covers it, or one given with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from gdi.contracts import broker_api as m
from gdi.contracts.portal_api import Consent, RunStart
from gdi.kit.problem import ProblemError
from gdi.portal.broker import BrokerForUsers
from gdi.portal.catalogue import Catalogue, check_parameters

LASTING = 60.0  # seconds that a grant must still be good for


class Consents:
    def __init__(self, broker: BrokerForUsers, catalogue: Catalogue) -> None:
        self._broker, self._catalogue = broker, catalogue

    async def covering(self, token: str, start: RunStart) -> m.Grant:
        """403 `consent-needed` where there is none, with what to send to give it; the broker's 403 for a named grant
        that is not the caller's.
        """
        if start.grant is not None:
            return await self._broker.grant(token, start.grant)  # whether it covers the start, its ticket says
        found = covering(await self._broker.grants(token), start.workflow, start.datasets)
        if found:
            return found[0]
        if start.consent is not None:
            return await self._broker.create_grant(token, _request(start, start.consent))
        raise ProblemError(
            403,
            "consent-needed",
            f"You have given no consent to run {start.workflow} on these datasets.",
            action="Give it: POST /v1/grants, or send `consent` with the start.",
            workflow=start.workflow,
            datasets=start.datasets[:100],
        )

    async def create(self, token: str, request: m.GrantRequest) -> m.Grant:
        """A grant whose workflows exist and whose schedule's parameters fit: what is wrong is said now, and not at the
        first start by night.
        """
        for name in request.workflows:
            self._catalogue.entry(name)
        if (schedule := request.schedule) is not None:
            entry = self._catalogue.entry(schedule.workflow)
            values = {k: v for k, v in schedule.parameters.items() if k != "datasets"}
            await asyncio.to_thread(check_parameters, entry, values)
            datasets = schedule.parameters.get("datasets")
            if not isinstance(datasets, list) or not datasets or not set(map(str, datasets)) <= set(request.datasets):
                raise ProblemError(
                    422,
                    "bad-schedule",
                    "The schedule's parameters.datasets must name at least one dataset of the grant, and no other.",
                    action="Correct the schedule and send it again.",
                )
            if schedule.digest is None:
                request = request.model_copy(update={"schedule": schedule.model_copy(update={"digest": entry.digest})})
        return await self._broker.create_grant(token, request)


def covering(grants: Sequence[m.Grant], workflow: str, datasets: Sequence[str]) -> list[m.Grant]:
    """Those that serve now for this workflow on all of these datasets; the standing ones first, those that last longest
    first.
    """
    good = [
        g
        for g in grants
        if g.state == "active"
        and g.schedule is None
        and g.expires_at > time.time() + LASTING
        and workflow in g.workflows
        and set(datasets) <= set(g.datasets)
    ]
    return sorted(good, key=lambda g: (g.mode != "standing", -g.expires_at))


def _request(start: RunStart, consent: Consent) -> m.GrantRequest:
    return m.GrantRequest(
        workflows=[start.workflow],
        datasets=start.datasets,
        expires_at=time.time() + consent.days * 86400,
        mode="once" if consent.once else "standing",
        label=f"{start.workflow}, with its start",
    )
