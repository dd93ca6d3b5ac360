"""What a signed-in user may use at this moment: their passport is read with their own access token, nothing is kept."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from gdi.contracts.access import DatasetAccess, DatasetDescription, DatasetEntry, DatasetList, DataUseTerm
from gdi.contracts.cohorts import EpochCohorts
from gdi.contracts.committees import STOPPED, Stop
from gdi.contracts.data_use import TERMS
from gdi.contracts.ids import is_dataset_id
from gdi.kit.problem import ProblemError
from gdi.oauth.client import OAuthClient
from gdi.oauth.errors import OAuthDenied, OAuthUnavailable
from gdi.visas.visas import SENTENCES, Passport, Visa, Visas
from token_broker.catalogues.catalogues import DataCatalogues
from token_broker.committees.stops import Stops
from token_broker.enrolment import Enrolment, EnrolmentFile, Node
from token_broker.tokens.token_refresher import provider_away

KEEP = 20.0  # seconds for which a user's passport serves again: a page asks for the datasets at each of its steps
MOST_KEPT = 1000


class UserAccess:
    """`datasets(sub, token)`; asks the identity provider once in `KEEP` seconds and user. `statuses`: by node what its
    last heartbeat told.
    """

    def __init__(
        self,
        oidc: OAuthClient,
        visas: Visas,
        enrolment: EnrolmentFile,
        stops: Stops,
        catalogues: DataCatalogues,
        statuses: Callable[[], Awaitable[dict[str, dict[str, Any]]]],
    ) -> None:
        self._oidc, self._visas, self._enrolment, self._stops = oidc, visas, enrolment, stops
        self._catalogues, self._statuses = catalogues, statuses
        self._passports: dict[str, tuple[float, Passport]] = {}

    async def datasets(self, sub: str, access_token: str) -> DatasetList:
        """Every dataset that the enrolment names, and of those at a node that holds ids of their form the ones that the
        user has a visa for or that a catalogue describes. 401, or 503 where the provider is away.
        """
        passport, enrolment = await self._passport(sub, access_token), self._enrolment.current
        exact = {c: n for n in enrolment.nodes for c in n.datasets if not c.endswith("*")}
        described = self._catalogues.all()
        others = {v.value for v in passport.visas} | set(passport.failures) | set(described)
        named = {d: n for d in others if is_dataset_id(d) and (n := enrolment.node_of(d)) is not None}
        found = sorted((exact | named).items(), key=lambda pair: (pair[1].id, pair[0]))
        stopped = await self._stops.of_person(passport.people, [dataset for dataset, _ in found])
        entries = [
            _stopped(dataset, node, stopped[dataset]) if dataset in stopped else _entry(dataset, node, passport)
            for dataset, node in found
        ]
        entries = [_described(e, d) if (d := described.get(e.id)) is not None else e for e in entries]
        _add_words(entries, await self._statuses())
        return DatasetList(datasets=entries, prefixes=_prefixes(enrolment))

    async def _passport(self, sub: str, access_token: str) -> Passport:
        at, known = self._passports.get(sub, (0.0, None))
        if known is not None and time.monotonic() - at < KEEP:
            return known
        try:
            userinfo = await self._oidc.userinfo(access_token)
        except OAuthDenied:
            raise ProblemError(
                401,
                "unauthenticated",
                "The identity provider does not tell your visas to this access token.",
                action="Sign in again, with the scope ga4gh_passport_v1.",
            ) from None
        except OAuthUnavailable as error:
            raise provider_away(error) from None
        if userinfo.get("sub") != sub:
            raise ProblemError(401, "unauthenticated", "The access token is of another user.", action="Sign in again.")
        passport = await self._visas.passport(userinfo, sub)
        while len(self._passports) >= MOST_KEPT:
            self._passports.pop(next(iter(self._passports)))
        self._passports[sub] = (time.monotonic(), passport)
        return passport


def _stopped(dataset: str, node: Node, stop: Stop) -> DatasetEntry:
    sentence = f"The access committee {stop.committee} has stopped your use of it: {stop.reason}"
    return DatasetEntry(
        id=dataset,
        title=node.titles.get(dataset, ""),
        node=node.id,
        access=DatasetAccess(state="refused", reason=STOPPED, sentence=sentence),
        how_to_apply="Ask that committee.",
    )


def _described(entry: DatasetEntry, words: DatasetDescription) -> DatasetEntry:
    """With the catalogue's words, where the operator has none of their own. How a stop ends no catalogue knows."""
    own_way = entry.apply_url is not None or entry.access.reason == STOPPED
    return entry.model_copy(
        update={
            "title": entry.title or words.title,
            "apply_url": entry.apply_url if own_way else words.access_url,
            "catalogue": words,
        }
    )


def _add_words(entries: list[DatasetEntry], statuses: dict[str, dict[str, Any]]) -> None:
    """What each dataset's own node says of it: terms, each code once, and cohorts where the user has access."""
    made: dict[str, DataUseTerm] = {}
    for entry in entries:
        status = statuses.get(entry.node, {})
        codes = list(dict.fromkeys(status.get("terms", {}).get(entry.id, [])))
        made |= {c: DataUseTerm(code=c, label=TERMS.get(c, "")) for c in codes if c not in made}
        entry.terms = [made[c] for c in codes]
        cohorts = status.get("cohorts", {}).get(entry.id)
        if cohorts is not None and entry.access.state == "granted":
            entry.cohorts = EpochCohorts.model_validate(cohorts)


def _prefixes(enrolment: Enrolment) -> dict[str, list[str]]:
    found = {n.id: [c[:-1] for c in n.datasets if c.endswith("*")] for n in enrolment.nodes}
    return {node: prefixes for node, prefixes in found.items() if prefixes}


def _entry(dataset: str, node: Node, passport: Passport) -> DatasetEntry:
    found = passport.access(dataset)
    if isinstance(found, Visa):
        access = DatasetAccess(state="granted", until=found.ends_at, sentence="You may use it.")
    elif found == "issuer-unavailable":
        access = DatasetAccess(
            state="unknown", reason=found, sentence="The issuer of your visa for it cannot be asked now; try again."
        )
    else:
        sentence = SENTENCES.get(found, found)
        access = DatasetAccess(state="refused", reason=found, sentence=f"{sentence[0].upper()}{sentence[1:]}.")
    return DatasetEntry(
        id=dataset,
        title=node.titles.get(dataset, ""),
        node=node.id,
        access=access,
        how_to_apply=node.application,
        apply_url=node.apply_for(dataset),
    )
