"""A person of the node decides: who may, what they see, what leaves and when, and what a hostile browser or run cannot
do.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import pytest

from gdi.kit.canonical import sha256_hex
from gdi.local_federation.aai.client import submit_login
from gdi.local_federation.aai.running import RunningAai
from tests.support.gateway_releases import again, ask, fetch, row
from tests.support.gateway_review import ALICE, BOB, aai_fixture, policy, sub  # noqa: F401
from tests.support.gateway_review_pages import browser, field, sign_in  # noqa: F401
from tests.support.gateway_world import Run, World, world_fixture  # noqa: F401

pytestmark = pytest.mark.long


def decide(
    browser: httpx.Client, run: Run, page: httpx.Response, decision: str, reason: str = "", **changes: Any
) -> httpx.Response:
    form = {
        "csrf": field(page, "csrf"),
        "sha256": field(page, "sha256"),
        "decision": decision,
        "sure": "yes",
        "reason": reason,
        **changes.pop("form", {}),
    }
    return browser.post(f"/review/{run.id}/counts", data=form, **changes)


def test_a_reviewer_sees_what_would_leave_approves_and_then_it_leaves(
    world: World, aai: RunningAai, browser: httpx.Client
) -> None:
    run = world.new_run(datasets=("RV-1",))
    waiting = ask(world, run, [row(1), row(2, het=3, hom_alt=0), row(77, het=41)])
    assert waiting.status_code == 202 and waiting.json() == {"status": "awaiting-review", "name": "counts"}
    assert fetch(run).status_code == 404
    page = sign_in(aai, browser, back=f"/review/{run.id}/counts")
    assert (
        page.status_code == 200 and "allele-frequency" in page.text and "RV-1" in page.text and "alice@aai" in page.text
    )
    assert (
        '<td class="number">77</td>' in page.text
        and '<td class="number">61</td>' in page.text
        and "small: 1 sites" in page.text
    )
    assert page.headers.get_list("content-security-policy") == [
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ]
    assert "nobody: this node" in page.text and "people carry its rarer allele; the floor is 5" in page.text
    whole = browser.get(f"/review/{run.id}/counts/whole")
    assert sha256_hex(whole.content) == field(page, "sha256") and "attachment" in whole.headers["content-disposition"]
    first = decide(browser, run, page, "approve", form={"sure": ""})
    assert first.status_code == 200 and "cannot be taken back" in first.text and fetch(run).status_code == 404
    assert "<script" not in page.text and page.headers["cache-control"] == "no-store"
    assert f"counts of {run.id}" in browser.get("/review").text
    done = decide(browser, run, page, "approve")
    assert done.status_code == 200 and "Approved" in done.text
    assert again(run).status_code == 200 and fetch(run).json()["sites"][-1]["pos"] == 77
    told = {e["action"]: e for e in world.audit(run.id)}
    assert (
        told["release-published"]["actor"] == f"reviewer {sub(aai, ALICE)}"
        and told["review-look"]["actor"] == f"reviewer {sub(aai, ALICE)}"
    )


def test_a_refusal_needs_a_reason_and_the_run_is_told_it(world: World, aai: RunningAai, browser: httpx.Client) -> None:
    run = world.new_run(datasets=("RV-2",))
    ask(world, run, [row(1)])
    page = sign_in(aai, browser, back=f"/review/{run.id}/counts")
    assert decide(browser, run, page, "refuse").status_code == 422
    assert decide(browser, run, page, "refuse", "The cohort is too small <b>\x07").status_code == 200
    refused = again(run)
    assert (
        refused.status_code == 422
        and "The cohort is too small <b>" in refused.json()["reasons"][0]
        and "\x07" not in refused.text
    )
    assert fetch(run).status_code == 404
    assert decide(browser, run, page, "approve").status_code == 404, "decided once"
    assert again(run).status_code == 422


def test_only_the_reviewers_of_the_policy_of_now_may_look_or_decide(
    world: World, aai: RunningAai, browser: httpx.Client
) -> None:
    run = world.new_run(datasets=("RV-3",))
    ask(world, run, [row(1, het=4321)])
    assert sign_in(aai, browser, BOB).status_code == 403 and not browser.cookies.get("gdi_review", path="/review")
    assert "4341" not in browser.get(f"/review/{run.id}/counts").text
    page = sign_in(aai, browser, back=f"/review/{run.id}/counts")
    assert "4341" in page.text
    world.policy(review=True, reviewers=[sub(aai, BOB)])
    assert browser.get(f"/review/{run.id}/counts").status_code == 403 and browser.get("/review").status_code == 403
    assert decide(browser, run, page, "approve").status_code == 403 and again(run).status_code == 202
    assert any("not a reviewer" in r for r in world.refusals())


def test_a_form_from_elsewhere_without_the_session_or_for_other_bytes_decides_nothing(
    world: World, aai: RunningAai, browser: httpx.Client
) -> None:
    run = world.new_run(datasets=("RV-4",))
    ask(world, run, [row(1)])
    page = sign_in(aai, browser, back=f"/review/{run.id}/counts")
    assert decide(browser, run, page, "approve", form={"csrf": "x" * 32}).status_code == 403
    for origin in ("https://evil.example", "null"):
        assert decide(browser, run, page, "approve", headers={"Origin": origin}).status_code == 403
    assert decide(browser, run, page, "approve", form={"sha256": "0" * 64}).status_code == 404, (
        "the decision is on the bytes that were shown"
    )
    form = {"csrf": field(page, "csrf"), "sha256": field(page, "sha256"), "decision": "approve", "sure": "yes"}
    assert httpx.post(f"{world.url}/review/{run.id}/counts", data=form, trust_env=False).status_code == 403
    bearer = {"Authorization": "Bearer " + run.token("releases close")}
    assert (
        httpx.post(f"{world.url}/review/{run.id}/counts", data=form, headers=bearer, trust_env=False).status_code == 403
    ), "a run cannot approve itself"
    assert again(run).status_code == 202


def test_a_sign_in_that_this_browser_did_not_start_opens_no_session(
    world: World, aai: RunningAai, browser: httpx.Client
) -> None:
    away = browser.get("/review/sign-in", params={"back": "https://evil.example/"})
    with httpx.Client(trust_env=False) as provider:
        back = submit_login(provider, away.headers["location"], ALICE, aai.secrets.read(f"user-{ALICE}"))
    assert httpx.get(back, trust_env=False).status_code == 403, "another browser's"
    returned = browser.get(back)
    assert returned.status_code == 303 and returned.headers["location"] == world.url + "/review"
    issued = browser.cookies.get("gdi_review", path="/review") or ""
    assert issued and all(c.has_nonstandard_attr("HttpOnly") for c in browser.cookies.jar)


def test_a_workflow_may_ask_for_review_where_the_node_does_not(
    world: World, aai: RunningAai, browser: httpx.Client
) -> None:
    world.policy(review=False, reviewers=[sub(aai, ALICE)])
    run = world.new_run(datasets=("RV-5",))
    assert ask(world, run, [row(1)], review=True).status_code == 202 and fetch(run).status_code == 404
    assert again(run, review=False).status_code == 202, "asked once, it stays"


def test_whoever_waits_hears_of_the_decision_at_once(world: World, aai: RunningAai, browser: httpx.Client) -> None:
    run, other = world.new_run(datasets=("RV-6",)), world.new_run()
    ask(world, run, [row(1)])

    def state(of: Run, wait: float) -> Any:
        return of.call("GET", f"/releases/{run.id}/counts/review", scope="releases close", params={"wait": wait})

    assert state(run, 0).json() == {"state": "awaiting-review"} and state(other, 0).status_code == 403
    page = sign_in(aai, browser, back=f"/review/{run.id}/counts")
    longest, heard = 15, []

    def wait() -> None:
        while True:
            asked = time.monotonic()
            if (found := state(run, longest).json()["state"]) != "awaiting-review":
                heard.append((found, time.monotonic() - asked))
                return

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.3)  # so that it most likely waits already; the promise holds either way
    assert decide(browser, run, page, "approve").status_code == 200
    waiter.join(120)
    ((found, took),) = heard
    assert found == "published" and took < longest, "it did not hear of it at the end of its question only"


def test_of_two_reviewers_at_once_the_first_decides_also_over_a_kill(
    world: World, aai: RunningAai, browser: httpx.Client
) -> None:
    run = world.new_run(datasets=("RV-7",))
    ask(world, run, [row(1)])
    page = sign_in(aai, browser, back=f"/review/{run.id}/counts")
    world.kill()
    world.start()
    answers: list[int] = []

    def press(decision: str) -> None:
        with httpx.Client(base_url=world.url, trust_env=False, cookies=browser.cookies, timeout=60) as one:
            answers.append(decide(one, run, page, decision, "no").status_code)

    threads = [threading.Thread(target=press, args=(d,)) for d in ("approve", "refuse")]
    [t.start() for t in threads]
    [t.join(120) for t in threads]
    assert sorted(answers) == [200, 404]
    world.kill()
    world.start()
    assert (
        again(run).status_code in (200, 422)
        and len([e for e in world.audit(run.id) if e["action"] in ("release-published", "release-refused")]) == 1
    )
