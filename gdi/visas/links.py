"""LinkedIdentities (GA4GH Passport 1.2): which other identities are the same person's, by the word of issuers that may
link.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote

from gdi.visas.issuer import VisaIssuer
from gdi.visas.visa import Visa

TYPE = "LinkedIdentities"
Identity = tuple[str, str]  # sub, iss


def linked(visas: Iterable[Visa], trusted: Iterable[VisaIssuer]) -> dict[Identity, Visa]:
    """The subject's other identities, by the visa that names them and ends last. One step: what those are linked with
    in turn does not count. An issuer may link with the key set that says so, not with another one of its name.
    """
    may = {(issuer.iss, issuer.jku) for issuer in trusted if issuer.links}
    found: dict[Identity, Visa] = {}
    for visa in visas:
        if visa.type == TYPE and (visa.iss, visa.jku) in may and not visa.conditions:
            for identity in _identities(visa.value):
                if identity not in found or found[identity].ends_at < visa.ends_at:
                    found[identity] = visa
    return found


def _identities(value: str) -> list[Identity]:
    """Of a visa's value: `sub,iss` with both parts percent-encoded, `;` between. An entry of another form is none."""
    pairs = [entry.split(",") for entry in value.split(";")]
    return [(unquote(pair[0]), unquote(pair[1])) for pair in pairs if len(pair) == 2 and all(pair)]
