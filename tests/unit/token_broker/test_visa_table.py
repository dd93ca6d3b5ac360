"""Visas as issuers write them, right and wrong, in a table: accepted, or refused with the reason that is true, at
broker and node alike. And what is no visa at all never harms the others.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from types import SimpleNamespace
from typing import Any, cast

import httpx
import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdi.kit.jose import KeysUnavailable, RemoteKeys, SigningKey, TokenError, same_type, verify
from gdi.visas.issuer import VisaIssuer
from gdi.visas.visas import SENTENCES, Visa, Visas
from node_gateway.agent.decision import RefusedOrder, need_access
from tests.support.visa_kit import DATASET, EC, GONE, ISS, JKU, OTHER, P384, RSA, USER, by_hand, jwk, signed


def judged(tokens: list[Any], keys: Any = None, user: str = USER, **more: Any) -> str:
    """`good`, or the reason: the broker's, and the node's about what the broker passes on, or about the tokens as they
    came where it passes on none.
    """

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"keys": [jwk(EC)] if keys is None else keys})

    async def story() -> str:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            trusted = [VisaIssuer(iss=ISS, jku=JKU, **more)]
            passport = await Visas(http, lambda: trusted).passport({"ga4gh_passport_v1": tokens}, user)
            found = passport.access(DATASET)
            sent = passport.tokens_for([DATASET]) if isinstance(found, Visa) else tokens
            at_node = await Visas(http, lambda: trusted).passport({"ga4gh_passport_v1": sent}, user)
            order = cast(Any, SimpleNamespace(datasets=[DATASET]))
            if isinstance(found, Visa):
                need_access(order, at_node)
                return "good"
            with pytest.raises(RefusedOrder, match=re.escape(SENTENCES.get(found, found))):
                need_access(order, at_node)
            return found

    return asyncio.run(story())


NOW = int(time.time())
TYPES = [
    ("vnd.ga4gh.visa+jwt", "good"),
    ("VND.GA4GH.VISA+JWT", "good"),
    ("application/vnd.ga4gh.visa+jwt", "good"),
    ("JWT", "good"),
    ("jwt", "good"),
    ("Jwt", "good"),
    ("application/jwt", "good"),
    ("Application/JWT", "good"),
    ("", "malformed"),
    ("visa", "malformed"),
    ("jwt2", "malformed"),
    ("text/jwt", "malformed"),
    (7, "malformed"),
    (["JWT"], "malformed"),
    (None, "malformed"),
]
TIMES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"iat": NOW + 20}, {"asserted": NOW + 20}, "good"),
    ({"iat": NOW + 20}, {}, "good"),
    ({}, {"asserted": NOW + 20}, "good"),
    ({"nbf": NOW + 20}, {}, "good"),
    ({"nbf": NOW - 20}, {}, "good"),
    ({"iat": NOW + 600}, {}, "clocks-differ"),
    ({"nbf": NOW + 600}, {}, "clocks-differ"),
    ({}, {"asserted": NOW + 600}, "clocks-differ"),
    ({"iat": NOW + 600}, {"asserted": NOW + 600}, "clocks-differ"),
    ({"iat": NOW - 10**8}, {"asserted": NOW - 10**8}, "good"),
    ({"exp": (NOW + 3600) * 1000}, {}, "not-in-seconds"),
    ({"exp": NOW * 1000}, {}, "not-in-seconds"),
    ({"exp": NOW * 10**6}, {}, "not-in-seconds"),
    ({"exp": (NOW - 10**8) * 1000}, {}, "not-in-seconds"),
    ({"exp": NOW * 1000, "iat": NOW * 1000}, {}, "not-in-seconds"),
    ({"exp": 253402300799}, {}, "good"),  # the end of the year 9999
    ({"exp": NOW - 10}, {}, "expired"),
    ({"exp": NOW + 30}, {}, "expired"),  # what ends within the minute is not begun
    ({"exp": 0}, {}, "expired"),
    ({"exp": -1}, {}, "expired"),
    ({"exp": NOW + 3600.5}, {}, "good"),
    ({"iat": NOW - 0.5}, {}, "good"),
    ({"exp": float("inf")}, {}, "malformed"),
    ({"exp": float("nan")}, {}, "malformed"),
    ({"exp": "tomorrow"}, {}, "malformed"),
    ({"exp": str(NOW + 3600)}, {}, "malformed"),
    ({"exp": None}, {}, "malformed"),
    ({"exp": [NOW]}, {}, "malformed"),
    ({"exp": {}}, {}, "malformed"),
    ({"iat": "now"}, {}, "malformed"),
    ({"iat": True}, {}, "malformed"),
    ({"iat": None}, {}, "malformed"),
    ({"iat": float("inf")}, {}, "malformed"),
    ({"nbf": "now"}, {}, "malformed"),
    ({"nbf": None}, {}, "malformed"),
    ({"exp": GONE}, {}, "malformed"),
    ({"iat": GONE}, {}, "malformed"),
    ({"jti": GONE}, {}, "good"),
    ({}, {"asserted": GONE}, "malformed"),
    ({}, {"asserted": None}, "malformed"),
    ({}, {"asserted": "2020-01-01"}, "malformed"),
    ({}, {"asserted": True}, "malformed"),
    ({}, {"asserted": 0}, "malformed"),
    ({}, {"asserted": -5}, "malformed"),
    ({}, {"asserted": NOW * 1000}, "malformed"),
    ({}, {"asserted": NOW - 0.5}, "good"),
]
CLAIMS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"scope": ["openid"]}, {}, "malformed"),
    ({"scope": "openid"}, {}, "malformed"),
    ({"scope": "email openid"}, {}, "malformed"),
    ({"scope": {"openid": True}}, {}, "malformed"),
    ({"scope": 7}, {}, "malformed"),
    ({"scope": None}, {}, "malformed"),
    ({"scope": ""}, {}, "good"),
    ({"scope": "email"}, {}, "good"),
    ({"scope": "openid-ish"}, {}, "good"),
    ({"aud": "https://somebody.example"}, {}, "good"),
    ({"sub": "bob@example.org"}, {}, "wrong-subject"),
    ({"sub": USER.upper()}, {}, "wrong-subject"),
    ({"sub": USER + " "}, {}, "wrong-subject"),
    ({"sub": 7}, {}, "malformed"),
    ({"sub": [USER]}, {}, "malformed"),
    ({"sub": GONE}, {}, "malformed"),
    ({"iss": "https://visas.example"}, {}, "untrusted-issuer"),
    ({"iss": "https://evil.example/"}, {}, "untrusted-issuer"),
    ({"iss": [ISS]}, {}, "untrusted-issuer"),
    ({"iss": None}, {}, "untrusted-issuer"),
    ({"iss": GONE}, {}, "untrusted-issuer"),
    ({}, {"type": "AcceptedTermsAndPolicies"}, "wrong-type"),
    ({}, {"type": "controlledaccessgrants"}, "wrong-type"),
    ({}, {"type": "ControlledAccessGrants "}, "wrong-type"),
    ({}, {"type": GONE}, "malformed"),
    ({}, {"type": 7}, "malformed"),
    ({}, {"type": ""}, "malformed"),
    ({}, {"value": "EGAD2"}, "no-visa"),
    ({}, {"value": "egad1"}, "no-visa"),
    ({}, {"value": "EGAD1 "}, "no-visa"),
    ({}, {"value": "https://example.org/EGAD1"}, "no-visa"),
    ({}, {"value": GONE}, "no-visa"),
    ({}, {"value": ["EGAD1"]}, "no-visa"),
    ({}, {"source": GONE}, "malformed"),
    ({}, {"source": "x" * 256}, "malformed"),
    ({}, {"source": None}, "malformed"),
    ({}, {"by": GONE}, "malformed"),
    ({}, {"by": None}, "malformed"),
    ({}, {"by": 7}, "malformed"),
    ({}, {"by": "peer"}, "good"),
    ({}, {"conditions": []}, "good"),
    ({}, {"conditions": None}, "good"),
    ({}, {"conditions": {}}, "conditions"),
    ({}, {"conditions": "x"}, "conditions"),
    ({}, {"conditions": [[]]}, "conditions"),
    ({}, {"conditions": [[{"type": "AffiliationAndRole", "by": "const:so"}]]}, "conditions"),
    ({}, {"conditions": [[{"type": "AffiliationAndRole"}]]}, "conditions"),
    ({}, {"extra": {"a": [1]}}, "good"),
    ({"extra": "x" * 100}, {}, "good"),
    ({"x": "y" * 20_000}, {}, "malformed"),
]


@pytest.mark.parametrize(("typ", "reason"), TYPES, ids=str)
def test_media_types_are_compared_without_case(typ: Any, reason: str) -> None:
    token = by_hand(
        {"alg": "ES256", "kid": "1", "jku": JKU, "typ": typ},
        jwt.decode(signed({}, {}, {}), options={"verify_signature": False}),
        EC,
        "ES256",
    )
    assert judged([token]) == reason


def test_a_type_that_is_not_there_is_none() -> None:
    assert judged([signed({"typ": GONE}, {}, {})]) == "malformed"


@pytest.mark.parametrize(("claims", "visa", "reason"), TIMES + CLAIMS, ids=range(len(TIMES + CLAIMS)))
def test_a_claim_is_taken_or_refused_by_its_name(claims: dict[str, Any], visa: dict[str, Any], reason: str) -> None:
    moved = {n: v + int(time.time()) - NOW if _recent(v) else v for n, v in claims.items()}
    shown = {n: v + int(time.time()) - NOW if _recent(v) else v for n, v in visa.items()}
    token, good = signed({}, moved, shown), signed({}, {}, {"value": "EGAD9"})
    assert judged([token, good]) == reason


def _recent(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value - NOW) < 10_000


@pytest.mark.parametrize("visa", [None, [], "x", 7, {}, [{}]], ids=str)
def test_what_is_no_visa_object_is_none(visa: Any) -> None:
    assert judged([signed({}, {"ga4gh_visa_v1": visa}, {})]) == "no-visa"


KEYS: list[tuple[list[dict[str, Any]], str]] = [
    ([jwk(EC)], "good"),
    ([jwk(OTHER), jwk(EC)], "good"),  # an old key under the same name
    ([jwk(EC), jwk(OTHER)], "good"),
    ([jwk(OTHER, use="enc"), jwk(EC)], "good"),
    ([jwk(EC, use="enc"), jwk(EC, use="sig")], "good"),
    ([jwk(P384), jwk(EC)], "good"),
    ([jwk(RSA), jwk(EC)], "good"),
    ([jwk(RSA, use="enc"), jwk(P384), jwk(OTHER), jwk(EC)], "good"),
    ([{"kid": "1", "kty": "EC", "crv": "P-256", "x": "?", "y": "?"}, jwk(EC)], "good"),
    ([{"kid": "1", "kty": "oct", "k": "c2VjcmV0"}, jwk(EC)], "good"),
    ([{"kid": "1", "kty": "OKP", "crv": "Ed25519", "x": "AA"}, jwk(EC)], "good"),
    ([{"kid": "1"}, {}, jwk(EC)], "good"),
    ([jwk(EC, alg="ES256")], "good"),
    ([jwk(EC, key_ops=["verify"])], "good"),
    ([jwk(OTHER, alg="RS256"), jwk(EC)], "good"),
    ([jwk(EC, x5c=["A" * 300_000])], "good"),  # certificates make sets large
    ([*(jwk(OTHER, kid=str(n)) for n in range(2, 80)), jwk(EC)], "good"),
    ([*(jwk(OTHER, kid=str(n)) for n in range(2, 1001)), jwk(EC)], "good"),
    ([jwk(EC, use="enc")], "bad-signature"),
    ([jwk(EC, key_ops=["encrypt"])], "bad-signature"),
    ([jwk(EC, key_ops="verify")], "bad-signature"),
    ([jwk(EC, alg="ES384")], "bad-signature"),
    ([jwk(EC, kid="2")], "bad-signature"),
    ([jwk(OTHER)], "bad-signature"),
    ([jwk(OTHER), jwk(P384), jwk(RSA)], "bad-signature"),
    ([], "issuer-unavailable"),
    ([jwk(OTHER, kid=str(n)) for n in range(1001)], "issuer-unavailable"),
    ([jwk(EC, x5c=["A" * 3_000_000])], "issuer-unavailable"),
]
GOT = [each for each in KEYS if each[1] != "issuer-unavailable"]


@pytest.mark.parametrize(("keys", "reason"), KEYS, ids=range(len(KEYS)))
def test_every_fitting_key_is_tried(keys: list[dict[str, Any]], reason: str) -> None:
    assert judged([signed({}, {}, {})], keys) == reason


@pytest.mark.parametrize(("keys", "reason"), GOT, ids=range(len(GOT)))
def test_the_node_tries_every_fitting_key_too(keys: list[dict[str, Any]], reason: str) -> None:
    token = signed({"typ": "AT+JWT"}, {"aud": "https://node"}, {})
    if reason == "good":
        assert verify(token, keys, issuer=ISS, audience="https://node", typ="at+jwt")["sub"] == USER
    else:
        with pytest.raises(TokenError):
            verify(token, keys, issuer=ISS, audience="https://node", typ="at+jwt")


def test_rs256_and_a_token_that_names_no_key() -> None:
    assert judged([signed({}, {}, {}, RSA, "RS256")], [jwk(EC), jwk(RSA)]) == "good"
    assert judged([signed({"kid": GONE}, {}, {})], [jwk(OTHER, kid="2"), jwk(EC)]) == "good"
    assert judged([signed({"kid": GONE}, {}, {})], [jwk(OTHER, kid="2")]) == "bad-signature"


@pytest.mark.parametrize(("algorithm", "key"), [("HS256", "secret" * 8), ("ES384", P384), ("PS256", RSA)])
def test_other_algorithms_are_refused(algorithm: str, key: Any) -> None:
    assert judged([signed({}, {}, {}, key, algorithm)], [jwk(EC), jwk(RSA), jwk(P384)]) == "malformed"


@pytest.mark.parametrize(
    ("keys", "words"), [([{}] * 1001, "1001 keys"), ([{"x": "y" * 3_000_000}], "larger than"), ([], "0 keys")]
)
async def test_a_key_set_beyond_the_bound_is_refused_in_words(keys: Any, words: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"keys": keys}))
    async with httpx.AsyncClient(transport=transport) as http:
        with pytest.raises(KeysUnavailable, match=words):
            await RemoteKeys(JKU, http).keys(kid="1")


# --- what is no token ---------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["iss", "sub", "iat", "exp", "nbf", "scope", "ga4gh_visa_v1", "aud", "jti"])
VISA = st.sampled_from(["type", "value", "source", "by", "asserted", "conditions"])
SIGNER = SigningKey.generate()


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(NAMES, JSON, max_size=3), st.dictionaries(VISA, JSON, max_size=3))
def test_a_well_signed_visa_of_any_content_never_harms_another(claims: dict[str, Any], visa: dict[str, Any]) -> None:
    body = jwt.decode(signed({}, {}, {}), options={"verify_signature": False})
    body["ga4gh_visa_v1"] |= visa
    hostile = by_hand({"alg": "ES256", "kid": "1", "jku": JKU, "typ": "JWT"}, {**body, **claims}, EC, "ES256")
    assert judged([hostile, signed({}, {}, {})]) == "good"


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: b.decode("latin-1")), JSON, JSON)
def test_what_is_no_token_is_refused_at_broker_and_node_alike(text: str, header: Any, payload: Any) -> None:
    parts = [base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in (header, payload)]
    for token in (text, ".".join([*parts, ""]), ".".join([*parts, "AAAA"]), f"{text}.{parts[1]}.x", parts[0]):
        with pytest.raises(TokenError):
            verify(token, [SIGNER.jwk()], issuer=ISS, audience=None)
        assert judged([token, payload, header]) == "no-visa"


@pytest.mark.parametrize("depth", [100, 5_000, 100_000])
def test_a_token_of_deep_json_is_refused(depth: int) -> None:
    deep = base64.urlsafe_b64encode(b"[" * depth + b"]" * depth).rstrip(b"=").decode()
    for token in (f"{deep}.{deep}.x", f"eyJhbGciOiJFUzI1NiJ9.{deep}.x"):
        with pytest.raises(TokenError):
            verify(token, [SIGNER.jwk()], issuer=ISS, audience=None)
        assert judged([token]) == "no-visa"


def test_same_type() -> None:
    assert same_type("application/AT+jwt", "at+jwt") and not same_type("text/at+jwt", "at+jwt")
