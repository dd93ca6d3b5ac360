"""The broker's rules without a server: enrolment, settings, visa conditions, tickets' hashes, run ids."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gdi.contracts.ids import make_run_id
from gdi.kit.jose import SigningKey
from gdi.kit.problem import ProblemError
from gdi.kit.secret_files import read_secret_text
from gdi.kit.settings import SettingsError
from gdi.oauth.rfc6749 import TokenSet
from gdi.visas.conditions import conditions_met, wildcard
from tests.support.clock import Clock
from token_broker.enrolment import EnrolmentFile, parse
from token_broker.grants.grants import clean
from token_broker.grants.parameters import datasets_of, hash_of
from token_broker.settings import Settings
from token_broker.tokens.stored_tokens import StoredTokens

KEY = SigningKey.generate().jwk()


def node(name: str, *datasets: str, **more: Any) -> dict[str, Any]:
    base = {"id": name, "gateway_url": f"https://{name}.example", "public_key": KEY, "datasets": list(datasets)}
    return {**base, "sda_audience": "s", "tes_audience": "t", **more}


def enrolment(tmp_path: Path, document: Any) -> Path:
    file = tmp_path / "enrolment.yaml"
    file.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return file


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"nodes": [node("a", "D1"), node("b", "D1")]}, "both claim"),
        ({"nodes": [node("a", "EGAD*"), node("b", "EGAD1")]}, "both claim"),
        ({"nodes": [node("a", "EGAD1*"), node("b", "EGAD*")]}, "both claim"),
        ({"nodes": [node("a", "*")]}, "nodes.0.datasets.0"),
        ({"nodes": [node("a", "D1"), node("a", "D2", gateway_url="https://c")]}, "node id appears twice"),
        ({"nodes": [node("a", "D1", gateway_url="http://node.example")]}, "nodes.0.gateway_url"),
        ({"nodes": [node("a", "D1", public_key={**KEY, "d": "secret-part"})]}, "private key"),
        ({"nodes": [node("a", "D1", public_key={"kty": "x"})]}, "nodes.0.public_key"),
        ({"nodes": [node("a", "D1", typo=1)]}, "nodes.0.typo"),
        ({"workload_issuers": [{"issuer": "https://c"}]}, "jwks_url and jwks_file"),
        ({"visa_issuers": [{"iss": "https://r", "jku": "http://r/jwk"}]}, "visa_issuers.0.jku"),
        ("nodes: [", "line"),
    ],
)
def test_a_wrong_enrolment_is_refused_with_file_place_and_mistake(tmp_path: Path, document: Any, named: str) -> None:
    file = enrolment(tmp_path, document)
    with pytest.raises(SettingsError) as caught:
        parse(file)
    assert named in str(caught.value) and str(file) in str(caught.value) and "secret-part" not in str(caught.value)


def test_a_datasets_node_is_found_by_its_id_or_any_of_the_nodes_prefixes(tmp_path: Path) -> None:
    found = parse(enrolment(tmp_path, {"nodes": [node("a", "D1", "E*", "EGA*"), node("b", "D12", "F-long-*")]}))
    holders = {"D1": "a", "D12": "b", "E": "a", "EG": "a", "EGA7": "a", "F-long-": "b", "F-long-1": "b"}
    nobodys = ["D", "D11", "D123", "F", "F-long", "G", ""]
    for dataset in [*holders, *nobodys]:
        held = found.node_of(dataset)
        assert (held.id if held else None) == holders.get(dataset), dataset
        assert [n.id for n in found.nodes if n.claims(dataset)] == ([held.id] if held else []), dataset


def test_a_changed_enrolment_is_taken_and_a_bad_change_leaves_the_good_one(tmp_path: Path) -> None:
    file = enrolment(tmp_path, {"nodes": [node("a", "D1", "E*")]})
    live = EnrolmentFile(file)
    assert live.current.node_of("E77") is live.current.node("a") and live.current.node_of("D11") is None
    enrolment(tmp_path, "nodes: nonsense")
    assert live.current.node("a") is not None
    enrolment(tmp_path, {"nodes": [node("b", "D1")]})
    assert live.current.node("a") is None and live.current.node("b") is not None


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret")
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600") as caught:
        read_secret_text(file, "X")
    assert "s3cret" not in str(caught.value)
    file.chmod(0o600)
    assert read_secret_text(file, "X") == "s3cret"


def test_every_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_BROKER_PUBLIC_URL", "http://broker.example")
    monkeypatch.setenv("TOKEN_BROKER_PORT", "port")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    for name in ("PUBLIC_URL", "PORT", "VAULT_ADDR", "CLIENT_SECRET_FILE"):
        assert f"TOKEN_BROKER_{name}:" in str(caught.value)


VISA = {
    "type": "AffiliationAndRole",
    "value": "faculty@uni.org;student@uni.org",
    "source": "https://uni.org",
    "by": "so",
}


@pytest.mark.parametrize(
    ("conditions", "met"),
    [
        (None, True),
        ([], True),
        ([[{"type": "AffiliationAndRole", "source": "const:https://uni.org"}]], True),
        ([[{"type": "AffiliationAndRole", "value": "split_pattern:student@*"}]], True),
        ([[{"type": "AffiliationAndRole", "value": "pattern:student@*"}]], False),
        ([[{"type": "AffiliationAndRole", "value": "pattern:f?culty@*", "by": "const:so"}]], True),
        (
            [[{"type": "AffiliationAndRole", "by": "const:dac"}], [{"type": "AffiliationAndRole", "by": "const:so"}]],
            True,
        ),
        (
            [[{"type": "AffiliationAndRole", "by": "const:dac"}, {"type": "AffiliationAndRole", "by": "const:so"}]],
            False,
        ),
        ([[{"type": "AffiliationAndRole"}]], False),
        ([[{"type": "AffiliationAndRole", "by": "so"}]], False),
        ([[{"type": "AffiliationAndRole", "by": "regex:.*"}]], False),
        ([[{"type": "AffiliationAndRole", "asserted": "const:1", "by": "const:so"}]], False),
        ([[{"type": "Other", "by": "const:so"}]], False),
        ([[]], False),
        ("nonsense", False),
        ([["nonsense"]], False),
        ([[{"type": "AffiliationAndRole", "by": "const:so"}]] * 101, False),
    ],
)
def test_conditions_follow_the_passport_specification(conditions: Any, met: bool) -> None:
    assert conditions_met(conditions, [VISA]) is met


def test_a_hostile_pattern_costs_little() -> None:
    """The steps are counted: with each doubling of pattern and text at most four times as many, not 2**n."""

    def steps(size: int) -> int:
        count = 0

        def step(*_: object) -> Any:
            nonlocal count
            count += 1
            return step

        sys.settrace(step)
        try:
            assert not wildcard("*a" * size + "b", "a" * 2 * size)
        finally:
            sys.settrace(None)
        return count

    assert steps(100) < 5 * steps(50)


@given(st.text(max_size=50))
def test_a_pattern_of_a_text_without_wildcards_matches_that_text_only(text: str) -> None:
    plain = text.replace("*", "").replace("?", "")
    assert wildcard(plain, plain) and wildcard("*", text) and not wildcard(plain + "x", plain)


@given(st.text())
def test_cleaned_text_can_be_stored_and_shown(text: str) -> None:
    out = clean(text)
    out.encode()
    assert not any(ord(c) < 32 for c in out) and len(out) == len(text)


def test_a_tickets_hash_does_not_depend_on_order_or_on_how_a_number_is_written() -> None:
    assert hash_of({"datasets": ["b", "a"], "x": 4.0}) == hash_of({"x": 4, "datasets": ["a", "b", "a"]})
    assert hash_of({"datasets": ["a"], "x": True}) != hash_of({"datasets": ["a"], "x": 1})


def test_a_runs_id_cannot_be_made_to_collide_by_moving_text_between_its_parts() -> None:
    assert make_run_id("a", "b") != make_run_id("ab", "") and make_run_id("a", "b") == make_run_id("a", "b")


def test_tokens_never_show_in_a_repr() -> None:
    tokens = TokenSet("ACCESS-1", time.time() + 10, 10, "REFRESH-1", 60)
    held = StoredTokens.of(tokens, default_lifetime=60)
    assert "ACCESS-1" not in f"{tokens!r} {held!r} {held}" and "REFRESH-1" not in f"{tokens!r} {held!r}"
    assert StoredTokens.read(held.write()) == held


@pytest.mark.parametrize(
    ("lifetime", "age", "serves"), [(20, 14, True), (20, 15.5, False), (4, 1.5, True), (4, 2.5, False), (0, 0, False)]
)
def test_an_access_token_is_not_used_in_its_last_seconds(
    lifetime: float, age: float, serves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", Clock(1000.0))
    held = StoredTokens("r", 60, 0, "a" if lifetime else "", 1000.0 + lifetime - age, lifetime)
    assert held.serves(0) is serves


@pytest.mark.parametrize(
    ("cohort", "why"),
    [
        ("sex=female", "must be an object"),
        ({"split": "sex"}, "half of a level"),
        ({"where": "age > 40"}, "where: Extra inputs"),
        ({"epochs": {"EGAD9": 1}}, "EGAD9, which is none of the run's datasets"),
    ],
)
def test_what_no_cohort_is_gets_no_ticket_no_run_and_no_schedule(cohort: Any, why: str) -> None:
    with pytest.raises(ProblemError, match=why) as refused:
        datasets_of({"datasets": ["EGAD1"], "cohort": cohort})
    assert refused.value.slug == "bad-cohort"
    for good in (None, {}, {"split": "sex", "level": "female", "epochs": {"EGAD1": 2}}):
        assert datasets_of({"datasets": ["EGAD1"], "cohort": good}) == ["EGAD1"]
