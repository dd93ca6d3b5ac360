"""Journeys of people in Chromium over a whole local federation: what each clicks and must see, with pictures
(tests/artefacts/ui/journey-…). The pages of an access committee are looked at by axe in test_ui_portal.py, those at a
node in test_ui_review.py.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
import yaml

from gdi.kit.jose import SigningKey
from gdi.kit.secret_files import write_private
from gdi.local_federation import cohort
from gdi.local_federation.demo import compare, read_answer
from gdi.local_federation.federation import PROJECT, Federation
from gdi.local_federation.parts import core
from gdi.local_federation.parts.node import gateway_environment
from tests.support.browser import Browser
from tests.support.browser_person import BrowserPerson
from tests.support.debian import program
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("journeys")]
MINE = "my-counts"
A_RUN = 240  # seconds until an answer is there, on a machine that does other things too


@pytest.fixture
def federation() -> Iterator[Federation]:
    """One for each journey: what a person before did to consents, policy and ledger is not there."""
    work = Path(tempfile.mkdtemp(prefix="gdi-j-"))
    catalogue = work / "catalogue"
    shutil.copytree(PROJECT / "workflows", catalogue)
    with Federation(work, nodes=2, workflows=catalogue) as made:
        made.start()
        yield made
    shutil.rmtree(work, ignore_errors=True)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Browser]:
    with Browser(program("chromium"), tmp_path / "b", width=1366) as browser:
        yield browser
        assert browser.problems == []


def person(federation: Federation, page: Browser, name: str, journey: str) -> BrowserPerson:
    """Of the federation's LS AAI."""
    return BrowserPerson(page, name, federation.secrets.read(f"user-{name}", size=9), f"journey-{journey}")


def command(
    federation: Federation, *words: str | Path, ok: bool = True, environment: dict[str, str] | None = None
) -> str:
    """What a command line prints."""
    done = subprocess.run(
        [Path(sys.executable).parent / words[0], *map(str, words[1:])],
        env={"PATH": os.environ["PATH"], "HOME": str(federation.work), "LANG": "C.UTF-8", "COLUMNS": "400"}
        | (environment or {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def starts(federation: Federation, me: BrowserPerson, workflow: str) -> str:
    """From the list of workflows to the page of a run; its id."""
    me.page.open(federation.layout.url("portal") + "/workflows")
    me.click(f"main a[href^='/workflows/{workflow}']")
    me.page.sees("On which datasets?")
    me.click("form.stack button")
    me.look("check", "Your consent", "Individual data, intermediate files and logs stay at the nodes.")
    me.click("input[name=consent]")
    me.click("form.stack button")
    me.page.wait("location.pathname.startsWith('/runs/r-')", "the run's page", timeout=60)
    return str(me.page.evaluate("location.pathname.slice(6)"))


def test_a_researcher_gets_an_answer_and_a_committee_looks_it_up(
    federation: Federation, page: Browser, tmp_path: Path
) -> None:
    """Clicks: Sign in, Use it in an analysis, Check, I consent, Start. Seen: access, jobs at each node while they run,
    the picture and the files of the answer, which agree with bcftools over all people. The member of the access
    committee clicks: Sign in, Stop the person, Stop. Seen: the use with its visa and what left, the run that ends, both
    reports.
    """
    me = person(federation, page, "alice", "researcher")
    page.open(federation.layout.url("portal") + "/datasets")
    me.look("welcome", "where the data lies", "You are not signed in")
    me.click("main a.button")
    me.sign_in()
    me.look("datasets", "Use it in an analysis", *federation.layout.nodes)
    run = starts(federation, me, "allele-frequency")
    me.look("running", "jobs are done", *federation.layout.nodes, timeout=120)
    me.look("answer", "What left the nodes", "verified", timeout=A_RUN)
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 300)"), "the picture is there"
    saved = federation.work / "saved.tsv"
    saved.write_text(page.evaluate("fetch(document.querySelector('.files a').href).then(a => a.text())"))
    pooled = cohort.pooled(federation.vcf, federation.work / "pooled")
    answer = compare(read_answer(saved), pooled, federation.layout)
    assert answer.wrong == [] and answer.too_many == [] and answer.exact >= 100
    me.look("all", f"The answer is there: {len(answer.rows)} ")
    me.click("main form[action$=again] button")
    page.wait(f"location.pathname.startsWith('/runs/r-') && !location.pathname.includes({run!r})", "the second run")
    page.sees("jobs are", timeout=120)  # prepared, or done
    with Browser(program("chromium"), tmp_path / "c", width=1366) as own:
        a_member_stops_the_person(federation, person(federation, own, "bob", "committee"), run)
        assert own.problems == []
    me.look("stopped", "The access committee dac stopped the run", "Ask that committee.", timeout=A_RUN)
    page.open(federation.layout.url("portal") + "/datasets")
    me.look("no-more", "has stopped your use of it: Left the institute.")


def a_member_stops_the_person(federation: Federation, member: BrowserPerson, run: str) -> None:
    page, alice = member.page, core.USERS["alice"]
    page.open(federation.layout.url("portal") + "/committee")
    page.sees("You are not signed in")
    member.click("main a.button")
    member.sign_in()
    member.look("uses", alice, run, "counts: ", *(federation.layout.dataset(node) for node in federation.layout.nodes))
    member.click(f"main a[href^='/committee/stop'][href*='{quote(alice, safe='')}']")
    member.look("ask", "Stop this person?", "These runs end at once")
    page.evaluate("document.querySelector('textarea').value = 'Left the institute.'")
    member.click("form.stack button.danger")
    member.look("stopped", "Left the institute.", "Runs that were ended: 1.")
    member.click("main a.button")
    page.sees(f"by {core.USERS['bob']}")
    kinds = "Promise.all([...document.querySelectorAll('.actions a')].map(a => fetch(a.href).then(r => r.blob())))"
    sizes = page.evaluate(f"{kinds}.then(found => found.map(b => [b.type.split(';')[0], b.size > 500]))")
    assert sizes == [["application/pdf", True], ["text/csv", True]]


def test_a_portals_developer_needs_the_documents_only(federation: Federation, page: Browser, tmp_path: Path) -> None:
    """docs/portal-api.md, *A sandbox* and *Examples*. Clicks: Sign in at LS AAI. Seen: every call at /docs; the answer
    that docs/examples/start.py prints with the token of the client `portal-sandbox`.
    """
    portal, me = federation.layout.url("portal"), person(federation, page, "alice", "developer")
    page.open(portal + "/docs")
    me.look("docs", "POST /v1/runs", "what to do next", "openapi.json")
    found = httpx.get(federation.layout.issuer + "/.well-known/openid-configuration", trust_env=False).json()
    verifier, back = secrets.token_urlsafe(48), "http://localhost:3000/callback"
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    asked = {
        "client_id": core.SANDBOX,
        "response_type": "code",
        "scope": "openid ga4gh_passport_v1",
        "state": "s",
        "redirect_uri": back,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    page.open(str(httpx.URL(found["authorization_endpoint"], params=asked)))
    me.sign_in()
    page.wait("location.href.startsWith('chrome-error') || location.href.includes('code=')", "the way back")
    came = page.send("Page.getNavigationHistory")
    code = parse_qs(urlsplit(came["entries"][came["currentIndex"]]["url"]).query)["code"][0]
    body = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": back,
        "client_id": core.SANDBOX,
        "code_verifier": verifier,
    }
    token = httpx.post(found["token_endpoint"], data=body, trust_env=False).raise_for_status().json()["access_token"]
    with httpx.Client(base_url=portal, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as api:
        datasets = [
            one["id"] for one in api.get("/v1/datasets").json()["datasets"] if one["access"]["state"] == "granted"
        ]
    environment = {
        "PATH": os.environ["PATH"],
        "GDI_PORTAL": portal,
        "GDI_TOKEN": token,
        "GDI_WORKFLOW": "allele-frequency",
        "GDI_DATASETS": json.dumps(datasets),
    }
    done = subprocess.run(
        [sys.executable, PROJECT / "docs/examples/start.py"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=A_RUN,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("CHROM\t") and done.stdout.count("\n") > 100


def test_a_workflows_author_runs_their_own(federation: Federation, page: Browser, tmp_path: Path) -> None:
    """Types: `gdi workflow init --kind`, `check`, `lock`, `approve`; each node's operator takes the reviewer's key into
    the policy. Clicks: the workflow, Check, I consent, Start. Seen: the form of the author's schema, the answer.
    """
    catalogue = federation.workflows
    key = write_private(tmp_path / "ann.pem", SigningKey.generate().pem())
    for words in (["init", MINE, "--kind", "allele-counts"], ["check", MINE], ["lock", MINE]):
        command(federation, "gdi", "workflow", *words, "--catalogue", catalogue)
    text = command(federation, "gdi", "workflow", "approve", MINE, "--key", key, "--catalogue", catalogue)
    lines = yaml.safe_load(text[text.index("workflows:") :])
    for node in federation.layout.nodes:
        file = policy_of(federation, node)
        policy = yaml.safe_load(file.read_text())
        policy["workflows"] += lines["workflows"]
        policy["approvers"] = lines["approvers"]
        file.write_text(yaml.safe_dump(policy, sort_keys=False))
    me = person(federation, page, "alice", "author")
    page.open(federation.layout.url("portal") + "/workflows")
    me.click("main a.button, header a.button")
    me.sign_in()
    page.sees("Sign out")
    wait_for(
        "the portal's list",
        lambda: f'"{MINE}"' in httpx.get(federation.layout.url("portal") + "/v1/workflows", trust_env=False).text,
        timeout=120,
    )
    wait_for_dag(federation, MINE)
    run = starts(federation, me, MINE)
    me.look("answer", "What left the nodes", "verified", timeout=A_RUN)
    assert read_answer(federation.layout.results / run / "answer.tsv"), "it has sites"


def test_a_nodes_operator_from_policy_to_review(federation: Federation, page: Browser, tmp_path: Path) -> None:
    """Types: `node-gateway check` before and after a change of the policy, with a typo too; while the gateway is
    stopped `epoch open --dry-run`, `epoch open`, `cohort list`. Clicks: Sign in, the waiting release, Approve (which
    asks first). Reads: the audit's page, by a filter. Seen: what waits for whom, at the node and at the portal; the
    release after it was approved.
    """
    node = federation.layout.nodes[0]
    environment = gateway_environment(federation.layout, federation.secrets, node, federation.workflows, "ga4gh")
    file, before = policy_of(federation, node), policy_of(federation, node).read_text()
    assert "without a person" in command(federation, "node-gateway", "check", environment=environment)
    wrong = tmp_path / "policy.yaml"
    wrong.write_text(before.replace("floor:", "flor:"))
    assert "flor" in command(federation, "node-gateway", "check", wrong, file.parent / "datasets", ok=False)
    file.write_text(yaml.safe_dump(yaml.safe_load(before) | {"review": True}, sort_keys=False))
    assert "A person looks at every release first" in command(
        federation, "node-gateway", "check", environment=environment
    )
    dataset, people = federation.layout.dataset(node), tmp_path / "people.txt"
    with gzip.open(federation.vcf, "rt") as cohort_file:
        header = next(line for line in cohort_file if line.startswith("#CHROM"))
    samples = header.rstrip().split("\t")[9 :: len(federation.layout.nodes)]  # node-a's, as the federation splits them
    people.write_text("\n".join(samples) + "\n")
    epoch: list[str | Path] = ["node-gateway", "epoch", "open", dataset, "--persons", people, "--same-people"]
    with federation.supervisor.stopped(f"{node}-gateway"):
        assert f"{len(samples)} people would open" in command(federation, *epoch, "--dry-run", environment=environment)
        assert "No epoch is open." in command(federation, "node-gateway", "epoch", "list", environment=environment)
        assert f"Epoch 1 of {dataset} is open" in command(federation, *epoch, environment=environment)
        assert f"{len(samples)} people" in command(
            federation, "node-gateway", "cohort", "list", environment=environment
        )
    me = person(federation, page, "alice", "operator")
    page.open(federation.layout.url("portal") + "/workflows")
    me.click("main a.button, header a.button")
    me.sign_in()
    page.sees("Sign out")
    run = starts(federation, me, "allele-frequency")
    at = page.evaluate("location.href")
    me.look("waits", f"A person of {node} reviews", timeout=A_RUN)
    review = federation.layout.gateway_url(node) + "/review"
    with Browser(program("chromium"), tmp_path / "r", width=1366) as own:
        reviewer = person(federation, own, "bob", "operator-review")
        own.open(review)
        reviewer.click("main a")
        reviewer.sign_in()
        reviewer.look("list", run)
        reviewer.click(f"a[href*='{run}']")
        reviewer.look("release", "Approve: let it leave")
        reviewer.click("button[value=approve]")
        reviewer.look("asks", "Yes, approve it")
        reviewer.click("button[value=approve]")
        own.sees("It may leave; its run goes on.", timeout=60)
    inside = httpx.HTTPTransport(uds=str(federation.layout.internal_socket(node)))  # for people of the node only
    with httpx.Client(transport=inside, base_url="http://node", headers={"Accept": "text/html"}) as http:
        audit = http.get("/audit", params={"run": run, "text": "reviewer"}).text
    assert "<table" in audit and run in audit and "bob@lifescience-ri.eu" in audit
    page.open(at)
    me.look("answer", "What left the nodes", timeout=A_RUN)


def policy_of(federation: Federation, node: str) -> Path:
    return federation.layout.folder("nodes", node, "gateway") / "policy.yaml"


def wait_for_dag(federation: Federation, dag: str) -> None:
    """Airflow looks for new DAGs by itself, every few seconds."""
    from gdi.local_federation.parts import airflow

    token = airflow.login(federation.layout, federation.secrets, "portal")
    with httpx.Client(base_url=federation.layout.url("airflow"), trust_env=False, timeout=30) as http:
        http.headers["Authorization"] = f"Bearer {token}"
        wait_for("the new DAG", lambda: http.get(f"/api/v2/dags/{dag}").is_success, timeout=180, every=2)
