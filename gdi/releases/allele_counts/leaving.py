"""What leaves of a file of counts, in whichever format: its columns, what may be named as a reason, and what holds for
the alleles that it does not list.
"""

from __future__ import annotations

from typing import Any

from gdi.releases.allele_counts.answers import COPIES, MISSING, SMALL
from gdi.releases.rules import Rules, Scope

ROUNDED = 50  # people: a bound on alleles that are not listed tells the cohort's size no closer
COLUMNS = ("chrom", "pos", "ref", "alt", "ac_min", "ac_max", "an_min", "an_max", "reason", "rare")
NAMED = ("repeated-allele", "duplicate-site", "rows-disagree", "not-in-every-dataset")
"""Reasons to leave a site out that another node may name: of it, no more is known than of any other."""


def unlisted(scope: Scope, rules: Rules) -> dict[str, Any]:
    """What holds for each allele that a release of so many people does not list (JSON)."""
    most = COPIES * -(-scope.people // ROUNDED) * ROUNDED
    if rules.absent == "reference" and scope.complete:
        return {"ac_max": min(most, scope.pieces * COPIES * (rules.floor - 1)), "an_max": most, "reason": SMALL}
    return {"ac_max": most, "an_max": most, "reason": MISSING}
