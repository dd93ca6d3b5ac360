"""GA4GH passports and visas (AAI 1.2, Passport 1.2): which datasets may this user read, until when, and if not, why
not.

The `jku` must be trusted for that `iss` before it is fetched; RS256 and ES256 only; source, issuer and broker all have
to be trusted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeGuard

import httpx
import jwt

from gdi.contracts.refusals import VisaReason
from gdi.kit.jose import ALGORITHMS, BROKEN, RemoteKeys, TokenError, decoded, same_type
from gdi.visas import links
from gdi.visas.conditions import conditions_met
from gdi.visas.issuer import VisaIssuer
from gdi.visas.visa import Visa as Visa

MAX_VISAS, MAX_VISA_CHARS = 2000, 20_000
MAX_BESIDE = 50  # visas that go with those of the datasets, for their conditions
LEEWAY = 5.0  # seconds, of a visa's end
AHEAD = 60.0  # seconds that the clock of a visa's issuer may be ahead of ours, unless a setting says otherwise
IN_MILLISECONDS = 1e12  # as seconds this is the year 33,658; as milliseconds 2001
TYPES = ("JWT", "vnd.ga4gh.visa+jwt", "at+jwt")
SENTENCES: dict[str, str] = {
    "no-visa": "you have no visa for it",
    "expired": "your visa for it has expired",
    "untrusted-issuer": (
        "your visa for it comes from an issuer and key set (iss, jku) that this federation does not trust"
    ),
    "untrusted-source": "your visa for it names a source that this federation does not trust for its issuer",
    "bad-signature": "the signature of your visa for it is not valid",
    "wrong-type": "your visa for it is not a ControlledAccessGrants visa",
    "wrong-subject": "your visa for it names another user",
    "conditions": "the conditions of your visa for it are not met",
    "clocks-differ": (
        "your visa for it was made later than it is now by this broker's clock: the clocks of its issuer and of this"
        " broker differ, so start again in some minutes, and tell the operator if it stays"
    ),
    "not-in-seconds": "the end (exp) of your visa for it is no time in seconds, but looks like milliseconds",
    "malformed": "your visa for it lacks what the GA4GH Passport specification requires",
    "unknown-dataset": "no enrolled node holds it",
    "stopped-by-committee": "its access committee has stopped your use of it",
}
# Where several visas fail, the one that came furthest tells most.
_TELLING: tuple[VisaReason, ...] = (
    "issuer-unavailable",
    "conditions",
    "clocks-differ",
    "expired",
    "not-in-seconds",
    "untrusted-source",
    "wrong-subject",
    "wrong-type",
    "bad-signature",
    "untrusted-issuer",
    "malformed",
)


@dataclass
class Passport:
    """What came of a user's visas: the accepted, and for each value the reasons of those that were not. `people`: the
    user and all their linked identities, to each of which a stop or a veto may be.
    """

    people: frozenset[str] = frozenset()
    visas: list[Visa] = field(default_factory=list)
    failures: dict[str, list[VisaReason]] = field(default_factory=dict)

    def access(self, dataset: str, lasting: float = 60) -> Visa | VisaReason:
        """The accepted ControlledAccessGrants visa for `dataset` that ends last and lives `lasting` seconds more, or
        why there is none.
        """
        reasons = list(self.failures.get(dataset, []))
        best: Visa | None = None
        for visa in self.visas:
            if visa.value != dataset:  # whole and case-sensitive
                continue
            if visa.type != "ControlledAccessGrants":
                reasons.append("wrong-type")
            elif visa.by is None:
                reasons.append("malformed")
            elif not conditions_met(visa.conditions, [vars(v) for v in self.visas if not v.conditions]):
                reasons.append("conditions")
            elif visa.ends_at <= time.time() + lasting:
                reasons.append("expired")
            elif best is None or visa.ends_at > best.ends_at:
                best = visa
        if best is not None:
            return best
        return next((r for r in _TELLING if r in reasons), "no-visa")

    def tokens_for(self, datasets: Iterable[str]) -> list[str]:
        """The signed visas by which `datasets` are accessible, and those of other types: conditions may
        lean on them, and a node looks at affiliations.
        """
        found = [visa for visa in (self.access(dataset) for dataset in datasets) if isinstance(visa, Visa)]
        beside = [v for v in self.visas if not v.conditions and v.type != "ControlledAccessGrants"]
        beside.sort(
            key=lambda visa: visa.type not in ("AffiliationAndRole", links.TYPE)
        )  # a node's vetoes look at them
        found += beside[:MAX_BESIDE]
        return list(dict.fromkeys(token for visa in found for token in (visa.token, visa.link) if token))


class _Proved(NamedTuple):
    """A token of a trusted issuer whose signature and end hold; whose it is, is not looked at yet."""

    token: str
    claims: dict[str, Any]
    issuer: VisaIssuer


class Visas:
    """Validates passports. `trusted` gives the enrolled {iss, jku} pairs of the moment; key sets are kept and follow
    rotation.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        trusted: Callable[[], list[VisaIssuer]],
        max_age: float | None = None,
        ahead: float = AHEAD,
    ) -> None:
        """`max_age`: seconds from `asserted` on; `ahead`: seconds that an issuer's clock may be ahead of ours."""
        self._http, self._trusted, self._max_age, self._ahead = http, trusted, max_age, ahead
        self._keys: dict[str, RemoteKeys] = {}

    async def passport(self, userinfo: dict[str, Any], subject: str) -> Passport:
        """All visas of `ga4gh_passport_v1`: those of the subject, and those of identities that a trusted
        LinkedIdentities visa of the subject's names. A visa that fails never makes another fail.
        """
        found = Passport()
        encoded = userinfo.get("ga4gh_passport_v1")
        others: list[_Proved] = []
        for token in (encoded if isinstance(encoded, list) else [])[:MAX_VISAS]:
            if not isinstance(token, str):
                continue
            proved = await self._proved(token) if len(token) <= MAX_VISA_CHARS else "malformed"
            outcome = self._visa(proved, subject) if isinstance(proved, _Proved) else proved
            if isinstance(outcome, Visa):
                found.visas.append(outcome)
            elif outcome == "wrong-subject" and isinstance(proved, _Proved):
                others.append(proved)
            else:
                found.failures.setdefault(_claimed_value(token), []).append(outcome)
        known = links.linked(found.visas, self._trusted())
        found.people = frozenset({subject, *(sub for sub, _ in known)})
        for proved in others:
            other = self._linked(proved, known)
            if isinstance(other, Visa):
                found.visas.append(other)
            else:
                found.failures.setdefault(_claimed_value(proved.token), []).append(other)
        return found

    def _linked(self, proved: _Proved, known: dict[links.Identity, Visa]) -> Visa | VisaReason:
        """The visa of another identity, for as long as both it and the link hold."""
        identity = (str(proved.claims["sub"]), str(proved.claims["iss"]))
        link = known.get(identity)
        if link is None:
            return "wrong-subject"
        outcome = self._visa(proved, identity[0])
        if not isinstance(outcome, Visa):
            return outcome
        if outcome.type == links.TYPE:
            return "wrong-subject"
        return replace(outcome, ends_at=min(outcome.ends_at, link.ends_at), link=link.token)

    async def _proved(self, token: str) -> _Proved | VisaReason:
        try:
            header = jwt.get_unverified_header(token)
            unverified = jwt.decode(token, options={"verify_signature": False})
        except BROKEN:
            return "malformed"
        if header.get("alg") not in ALGORITHMS or not any(same_type(header.get("typ"), t) for t in TYPES):
            return "malformed"
        issuer = self._issuer(unverified.get("iss"), header.get("jku"))
        if issuer is None:
            return "untrusted-issuer"
        try:
            keys = await self._remote(issuer.jku).keys(kid=header.get("kid"))
        except TokenError:
            return "issuer-unavailable"
        try:
            required = ["iss", "sub", "iat", "exp"]
            options = {"require": required, "verify_aud": False, "verify_iat": False, "verify_nbf": False}
            claims = decoded(token, header, keys, leeway=LEEWAY, options=options)
        except jwt.ExpiredSignatureError:
            return "expired"
        except (TokenError, jwt.InvalidSignatureError, jwt.InvalidKeyError, jwt.PyJWKError):
            return "bad-signature"
        except BROKEN:
            return "malformed"
        return _Proved(token, claims, issuer)

    def _visa(self, proved: _Proved, subject: str) -> Visa | VisaReason:
        claims, issuer = proved.claims, proved.issuer
        visa = claims.get("ga4gh_visa_v1")
        scope = claims.get("scope", "")
        if not isinstance(visa, dict) or not isinstance(scope, str) or "openid" in scope.split():
            return "malformed"
        dates = [claims["iat"], claims["exp"], claims.get("nbf", 0)]
        if not all(_is_number(d) for d in dates):
            return "malformed"
        if claims["exp"] >= IN_MILLISECONDS:
            return "not-in-seconds"
        texts = [visa.get(k) for k in ("type", "value", "source")]
        asserted, by = visa.get("asserted"), visa.get("by")
        if not all(isinstance(t, str) and 0 < len(t) <= 255 for t in texts) or (
            by is not None and not isinstance(by, str)
        ):
            return "malformed"
        if not _is_number(asserted) or not 0 < asserted < IN_MILLISECONDS:
            return "malformed"
        if max(asserted, claims["iat"], claims.get("nbf", 0)) > time.time() + self._ahead:
            return "clocks-differ"
        if claims["sub"] != subject:
            return "wrong-subject"  # unless a trusted link says that it is the same person (_linked)
        if issuer.sources and visa["source"] not in issuer.sources:
            return "untrusted-source"
        ends = float(claims["exp"]) if self._max_age is None else min(float(claims["exp"]), asserted + self._max_age)
        if ends <= time.time():
            return "expired"
        return Visa(
            claims["iss"],
            visa["type"],
            visa["value"],
            visa["source"],
            by,
            float(asserted),
            ends,
            visa.get("conditions"),
            token=proved.token,
            jku=issuer.jku,
            sub=claims["sub"],
        )

    def _issuer(self, iss: object, jku: object) -> VisaIssuer | None:
        return next((t for t in self._trusted() if t.iss == iss and t.jku == jku), None)

    def _remote(self, jku: str) -> RemoteKeys:
        if jku not in self._keys:
            self._keys[jku] = RemoteKeys(jku, self._http)
        return self._keys[jku]


def _is_number(value: object) -> TypeGuard[int | float]:
    """A NumericDate (RFC 7519 §2) that can be counted with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e18


def _claimed_value(token: str) -> str:
    """The dataset that a rejected visa speaks of; used for naming the reason only."""
    try:
        visa = jwt.decode(token, options={"verify_signature": False}).get("ga4gh_visa_v1")
        value = visa.get("value") if isinstance(visa, dict) else ""
    except BROKEN:
        return ""
    return value[:255] if isinstance(value, str) else ""
