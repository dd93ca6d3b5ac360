"""docs/portal-api.md has every error that a portal can get here: each slug that this server raises, or passes on."""

from __future__ import annotations

import re
from pathlib import Path

from gdi.contracts.problems import PROBLEMS

ROOT = Path(__file__).parents[3]
# Of the broker, for calls that are passed on to it: consent, tickets, access.
PASSED_ON = {
    "access-denied",
    "bad-expiry",
    "dataset-not-granted",
    "exchange-refused",
    "grant-inactive",
    "grant-not-yours",
    "provider-unavailable",
    "stopped-by-committee",
    "too-many-grants",
    "vault-unavailable",
    "workflow-not-granted",
}
PAGES_ONLY = {"signed-out", "sign-in-refused", "sign-in-mismatch"}


def test_the_table_has_every_error_with_its_statuses() -> None:
    sources = [f.read_text() for f in (ROOT / "gdi" / "portal").rglob("*.py") if f.parent.name != "pages"]
    raised = {slug for text in sources for slug in re.findall(r"ProblemError\(\s*\d{3},\s*\"([a-z-]+)\"", text)}
    assert len(raised) > 15
    table = (ROOT / "docs" / "portal-api.md").read_text().partition("## Errors")[2].partition("## ")[0]
    rows = re.findall(r"^\| (\d{3}) \| (.+?) \|", table, re.M)
    documented = {
        (slug, int(status)) for status, slugs in rows for slug in re.findall(r"`([a-z]+(?:-[a-z]+)*)`", slugs)
    }
    named = {slug for slug, _ in documented}
    wanted = {slug for slug in raised | PASSED_ON if slug in PROBLEMS} - PAGES_ONLY
    assert sorted(wanted - named) == [], "say in docs/portal-api.md what a portal does about it"
    for slug, status in {one for one in documented if one[0] not in ("mistakes", "fields", "refusals")}:
        assert slug in PROBLEMS, slug
        assert not PROBLEMS[slug].statuses or status in PROBLEMS[slug].statuses, (slug, status, PROBLEMS[slug])
