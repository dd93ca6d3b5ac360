"""A veto or a stop is of a person: whoever comes under another identity, with the visas of the one that is stopped, is
refused as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.hostile_coordinator import ISS, JKU, USER, Attempt, outcome, visa

MALLORY = "mallory@bad.org"  # who has the visa; alice's account is theirs too
LINK = visa(visa={"type": "LinkedIdentities", "value": f"{quote(MALLORY, safe='')},{quote(ISS, safe='')}"})
LINKS: dict[str, Any] = {"visa_issuers": [{"iss": ISS, "jku": JKU, "links": True}]}


def linked(stopped: str = "", **veto: Any) -> Attempt:
    visas = [LINK, visa(claims={"sub": MALLORY}), visa(visa={"type": "AffiliationAndRole", "value": "x@good.org"})]
    return Attempt(visas=visas, policy={**LINKS, "veto": veto}, stopped=stopped)


@pytest.mark.parametrize(
    ("attempt", "told"),
    [
        (linked(), "admitted"),
        (linked(users=["somebody@else.org"]), "admitted"),
        (linked(stopped="somebody@else.org"), "admitted"),
        (linked(users=[MALLORY]), "user-vetoed"),
        (linked(users=[USER]), "user-vetoed"),
        (linked(organisations=["bad.org"]), "organisation-vetoed"),
        (linked(stopped=MALLORY), "user-vetoed"),
        (linked(stopped=USER), "user-vetoed"),
    ],
)
async def test_another_identity_leads_past_no_veto_and_no_stop(tmp_path: Path, attempt: Attempt, told: str) -> None:
    assert await outcome(tmp_path, attempt) == told
