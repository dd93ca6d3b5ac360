"""What leaves of a file of counts, in whichever format: its columns, what may be named as a reason, and what holds for
the alleles that it does not list.
"""

from __future__ import annotations

from typing import Any

from gdi.contracts.variants import UNNAMED_BESIDE, WITHHELD
from gdi.releases.allele_counts.answers import COPIES, MISSING, SMALL
from gdi.releases.allele_counts.table import MAX_COUNT
from gdi.releases.rules import Rules, Scope

ROUNDED = 50  # people: a bound on alleles that are not listed tells the cohort's size no closer
COLUMNS = ("chrom", "pos", "ref", "alt", "ac_min", "ac_max", "an_min", "an_max", "reason", "rare")
NAMED = frozenset(WITHHELD) - UNNAMED_BESIDE - {"contig-name", "position"}
"""Reasons to leave a site out that another node may name: of it, no more is known than of any other."""
UNBOUNDED = frozenset({"polyploid"})
"""Reasons with which a person may have more than two copies of an allele."""


def unlisted(scope: Scope, rules: Rules) -> dict[str, Any]:
    """What holds for each allele that a release of so many people does not list (JSON)."""
    known = scope.people > 0 and scope.bounded
    most = COPIES * -(-scope.people // ROUNDED) * ROUNDED if known else MAX_COUNT
    if rules.absent == "reference" and scope.complete:
        return {"ac_max": min(most, scope.pieces * COPIES * (rules.floor - 1)), "an_max": most, "reason": SMALL}
    return {"ac_max": most, "an_max": most, "reason": MISSING}
