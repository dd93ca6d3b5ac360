"""LinkedIdentities (GA4GH Passport 1.2): visas of a person's other identity count where an issuer that may link says
that it is the same person, and for no longer than both hold; nobody else makes two identities one.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from gdi.visas.issuer import VisaIssuer
from gdi.visas.visas import Passport, Visa, Visas
from tests.support.visa_kit import DATASET, EC, ISS, JKU, OTHER, USER, jwk, signed
from tests.support.wire import answers_of
from tests.support.wires import KEY_SETS

HOME, HOME_JKU = "https://home.example/", "https://home.example/jwks"
OTHER_ME = "alice,42@home.example"  # a comma in it, so that it must be encoded
LINKED = f"alice%2C42%40home.example,{HOME.replace(':', '%3A').replace('/', '%2F')}"
NOW = int(time.time())


def passport(*tokens: str, links: bool = True, home: bool = True) -> Passport:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"keys": [jwk(EC if str(request.url) == JKU else OTHER)]})

    async def story() -> Passport:
        async with httpx.AsyncClient(transport=answers_of(KEY_SETS, answer)) as http:
            trusted = [VisaIssuer(iss=ISS, jku=JKU, links=links)]
            trusted += [VisaIssuer(iss=HOME, jku=HOME_JKU)] if home else []
            return await Visas(http, lambda: trusted).passport({"ga4gh_passport_v1": list(tokens)}, USER)

    return asyncio.run(story())


def link(value: str = LINKED, claims: dict[str, Any] | None = None, **visa: Any) -> str:
    return signed({}, claims or {}, {"type": "LinkedIdentities", "value": value, "by": "system", **visa})


def theirs(claims: dict[str, Any] | None = None, **visa: Any) -> str:
    """A visa of the other identity, by its own issuer."""
    given = {"iss": HOME, "sub": OTHER_ME, **(claims or {})}
    return signed({"jku": HOME_JKU}, given, visa, key=OTHER)


def test_a_linked_identitys_visa_counts_and_both_travel_to_the_node() -> None:
    for tokens in ([link(), theirs()], [theirs(), link()]):
        found = passport(*tokens)
        assert isinstance(visa := found.access(DATASET), Visa) and visa.iss == HOME
        assert set(found.tokens_for([DATASET])) == set(tokens)
    several = link(f"x,https%3A%2F%2Fx.example;{LINKED};y,https%3A%2F%2Fy.example")
    assert isinstance(passport(several, theirs()).access(DATASET), Visa)


def test_it_holds_for_as_long_as_both_do() -> None:
    now = int(time.time())
    short = passport(link(claims={"exp": now + 600}), theirs(claims={"exp": now + 9000})).access(DATASET)
    assert isinstance(short, Visa) and abs(short.ends_at - now - 600) < 5
    longest = passport(
        link(claims={"exp": now + 600}), link(claims={"exp": now + 1200}), theirs(claims={"exp": now + 9000})
    ).access(DATASET)
    assert isinstance(longest, Visa) and abs(longest.ends_at - now - 1200) < 5
    assert passport(link(claims={"exp": now - 60}), theirs()).access(DATASET) == "wrong-subject"


@pytest.mark.parametrize(
    ("tokens", "more", "reason"),
    [
        ([theirs()], {}, "wrong-subject"),
        ([link(), theirs()], {"links": False}, "wrong-subject"),  # this issuer may not link
        ([link(), theirs()], {"home": False}, "untrusted-issuer"),
        ([link("alice%2C42%40home.example,https%3A%2F%2Felse.example%2F"), theirs()], {}, "wrong-subject"),
        ([link("bob,https%3A%2F%2Fhome.example%2F"), theirs()], {}, "wrong-subject"),
        ([link(f"{OTHER_ME},{HOME}"), theirs()], {}, "wrong-subject"),  # not encoded: three parts
        ([link(conditions=[[{"type": "ResearcherStatus", "value": "const:x"}]]), theirs()], {}, "wrong-subject"),
        ([link(claims={"sub": "eve@example.org"}), theirs()], {}, "wrong-subject"),  # a link of somebody else's
        ([link(type="ResearcherStatus"), theirs()], {}, "wrong-subject"),
        ([link(), theirs(claims={"exp": NOW - 60})], {}, "expired"),
        ([link(), theirs(type="ResearcherStatus")], {}, "wrong-type"),
        ([link(), signed({"jku": HOME_JKU}, {"iss": HOME, "sub": OTHER_ME}, {}, key=EC)], {}, "bad-signature"),
    ],
)
def test_nothing_else_makes_two_identities_one(tokens: list[str], more: dict[str, bool], reason: str) -> None:
    assert passport(*tokens, **more).access(DATASET) == reason


def test_an_issuer_links_with_the_key_set_that_may() -> None:
    """Two key sets of one issuer are enrolled; the other one's word makes nobody another's."""

    async def story(may: bool) -> Passport:
        def answer(request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, json={"keys": [jwk(EC if str(request.url) == JKU else OTHER)]})

        async with httpx.AsyncClient(transport=answers_of(KEY_SETS, answer)) as http:
            trusted = [
                VisaIssuer(iss=ISS, jku=JKU, links=not may),
                VisaIssuer(iss=ISS, jku=HOME_JKU, links=may),
                VisaIssuer(iss=HOME, jku=HOME_JKU),
            ]
            said = {"type": "LinkedIdentities", "value": LINKED, "by": "system"}
            tokens = [signed({"jku": HOME_JKU}, {}, said, key=OTHER), theirs()]
            return await Visas(http, lambda: trusted).passport({"ga4gh_passport_v1": tokens}, USER)

    assert asyncio.run(story(may=False)).access(DATASET) == "wrong-subject"
    assert isinstance(visa := asyncio.run(story(may=True)).access(DATASET), Visa)
    assert visa.summary()["sub"] == OTHER_ME


def test_the_person_is_all_their_identities_and_nobody_elses() -> None:
    assert passport(link()).people == {USER, OTHER_ME}
    assert passport(theirs()).people == passport(link(), links=False).people == {USER}
    assert passport(link(claims={"sub": "eve@example.org"}), theirs()).people == {USER}


def test_a_link_does_not_lead_on_to_a_third_identity() -> None:
    on = theirs(type="LinkedIdentities", value="third,https%3A%2F%2Fvisas.example%2F", by="system")
    third = signed({}, {"sub": "third"}, {})
    assert passport(link(), on, third).access(DATASET) == "wrong-subject"
