"""What a dataset may be used for, and for what a run uses it, in the codes of the Data Use Ontology (DUO, v2021-02-23;
GA4GH standard). A dataset's terms are permissions and modifiers; a run states investigations (DUO:0000031 to 40).

Only what codes alone can tell is decided here. Terms that need a person (ethics approval, place, institution, which
disease, …) are shown and decided by the access committee, whose word the visa is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

DuoCode = Annotated[str, Field(pattern=r"^DUO:[0-9]{7}$")]
PARAMETER = "purpose"  # of a run's conf
MOST = 10

TERMS = {  # of a dataset
    "DUO:0000004": "no restriction",
    "DUO:0000042": "general research use",
    "DUO:0000006": "health or medical or biomedical research",
    "DUO:0000007": "disease specific research",
    "DUO:0000011": "population origins or ancestry research only",
    "DUO:0000012": "research specific restrictions",
    "DUO:0000015": "no general methods research",
    "DUO:0000016": "genetic studies only",
    "DUO:0000018": "not for profit, non commercial use only",
    "DUO:0000019": "publication required",
    "DUO:0000020": "collaboration required",
    "DUO:0000021": "ethics approval required",
    "DUO:0000022": "geographical restriction",
    "DUO:0000024": "publication moratorium",
    "DUO:0000025": "time limit on use",
    "DUO:0000026": "user specific restriction",
    "DUO:0000027": "project specific restriction",
    "DUO:0000028": "institution specific restriction",
    "DUO:0000029": "return to database or resource",
    "DUO:0000043": "clinical care use",
    "DUO:0000044": "population origins or ancestry research prohibited",
    "DUO:0000045": "not for profit organisation use only",
    "DUO:0000046": "non-commercial use only",
}
METHODS, POPULATION, ANCESTRY, CONTROL = (f"DUO:00000{n}" for n in (31, 32, 33, 36))
BIOMEDICAL, GENETIC, DRUGS, DISEASE = (f"DUO:00000{n}" for n in (37, 38, 39, 40))
AGE, GENDER = "DUO:0000034", "DUO:0000035"
PURPOSES = {  # of a run
    METHODS: "method development",
    POPULATION: "population research",
    ANCESTRY: "ancestry research",
    AGE: "age category research",
    GENDER: "gender category research",
    CONTROL: "research control",
    BIOMEDICAL: "biomedical research",
    GENETIC: "genetic research",
    DRUGS: "drug development research",
    DISEASE: "disease category research",
}
HEALTH = frozenset({METHODS, AGE, GENDER, CONTROL, BIOMEDICAL, GENETIC, DRUGS, DISEASE})
PERMITS = {  # the purposes that a permission is for; of none of these: any
    "DUO:0000006": HEALTH,
    "DUO:0000007": frozenset({DISEASE}),
    "DUO:0000011": frozenset({POPULATION, ANCESTRY}),
}
ANY = frozenset({"DUO:0000004", "DUO:0000042"})
FORBIDS = {"DUO:0000015": frozenset({METHODS}), "DUO:0000044": frozenset({POPULATION, ANCESTRY})}
GENETIC_ONLY = "DUO:0000016"
_PURPOSES: TypeAdapter[list[str]] = TypeAdapter(Annotated[list[DuoCode], Field(min_length=1, max_length=MOST)])


class WrongPurposeError(ValueError):
    """The parameter `purpose` is no list of purposes."""


def purposes(value: object) -> list[str]:
    """A run's parameter `purpose`: codes of PURPOSES, each once; none where it is None. WrongPurposeError."""
    if value is None:
        return []
    try:
        found = _PURPOSES.validate_python(value, strict=True)
    except ValidationError:
        raise WrongPurposeError(
            f"{PARAMETER} must be a list of one to {MOST} DUO codes, such as [{BIOMEDICAL}]"
        ) from None
    if strange := [code for code in found if code not in PURPOSES]:
        raise WrongPurposeError(f"{strange[0]} is no purpose of research; these are: {named(PURPOSES, PURPOSES)}")
    if len(set(found)) != len(found):
        raise WrongPurposeError(f"{PARAMETER} names a code twice")
    return found


def why_not(use: Sequence[str], stated: Sequence[str]) -> str:
    """Why a dataset of these terms may not be used for all that is stated; empty where its codes forbid nothing of it.
    Each purpose must be permitted by one of the permissions, where there are any, and forbidden by no modifier.
    """
    terms = frozenset(use)
    permissions = terms & PERMITS.keys()
    permitted = frozenset().union(*(PERMITS[term] for term in permissions))
    for purpose in stated:
        if permissions and not terms & ANY and purpose not in permitted:
            return (
                f"its use is limited to {named(sorted(permissions), TERMS)}, and {_one(purpose, PURPOSES)} is not that"
            )
        for term in sorted(terms & FORBIDS.keys()):
            if purpose in FORBIDS[term]:
                return f"{_one(term, TERMS)}, and {_one(purpose, PURPOSES)} is stated"
    if GENETIC_ONLY in terms and stated and not {GENETIC, POPULATION, ANCESTRY} & set(stated):
        return f"{_one(GENETIC_ONLY, TERMS)}, and {_one(GENETIC, PURPOSES)} is not stated"
    return ""


def named(codes: Iterable[str], labels: dict[str, str] = TERMS) -> str:
    """Codes with their names, for people."""
    return ", ".join(_one(code, labels) for code in codes)


def _one(code: str, labels: dict[str, str]) -> str:
    return f"{labels[code]} ({code})" if code in labels else code
