"""How much each user, portal and gateway may ask for. Each replica counts for itself: two let twice as much pass, which
does no harm to what is guarded, the broker's own time and the provider's.
"""

from __future__ import annotations

from gdi.kit.rate_limit import Rate, RateLimit
from token_broker.authentication.callers import Caller, GatewayCaller, UserCaller
from token_broker.settings import Settings

BURST = 0.5  # of a minute's: what may come at once


class Limits:
    def __init__(self, settings: Settings) -> None:
        self._limit = RateLimit()
        self._user = _rate(settings.user_requests_per_minute)
        self._portal = _rate(settings.portal_requests_per_minute)
        self._gateway = _rate(settings.gateway_requests_per_minute)
        self._tickets = _rate(settings.user_tickets_per_minute)

    def request(self, caller: Caller) -> None:
        """A call of the API. ProblemError 429 where it is one too many. Workloads are not counted here: they act for
        runs, whose events and workloads are bounded.
        """
        if isinstance(caller, UserCaller):
            self._limit.take("requests of this user", caller.sub, self._user)
            self._limit.take("requests through this portal", caller.client_id, self._portal)
        elif isinstance(caller, GatewayCaller):
            self._limit.take("requests of this gateway", caller.node.id, self._gateway)

    def ticket(self, user: UserCaller) -> None:
        """A ticket of the user's. ProblemError 429 where it is one too many."""
        self._limit.take("tickets of this user", user.sub, self._tickets)


def _rate(per_minute: float) -> Rate:
    return Rate(per_minute, max(1.0, per_minute * BURST))
