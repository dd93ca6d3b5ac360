"""A release is signed by its node, and proven by whoever reads it: checksum, run, name, workflow and attempt. The
signature is a JWT (RFC 7519) of type `release+jwt` whose audience is the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from gdi.kit.jose import BROKEN, SigningKey, TokenError, verify

TYPE = "release+jwt"
TEN_YEARS = 10 * 365.25 * 86400  # seconds


class NotProvenError(Exception):
    """A release is not what its node signed; the message names node and release."""


def sign(
    key: SigningKey, *, node: str, run: str, name: str, sha256: str, workflow: str, digest: str, attempt: int
) -> str:
    """The node's signature over a release's bytes (their SHA-256 in hex) and where they come from."""
    claims: dict[str, Any] = {"iss": node, "aud": run, "release": name, "sha256": sha256}
    claims |= {"workflow": workflow, "digest": digest, "attempt": attempt}
    return key.sign(claims, lifetime=TEN_YEARS, typ=TYPE)


def signing_key(signature: str, keys: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Which of a node's keys the signature names (`kid`): a node that changes its key has two for a while. The first
    where it names none of them; whether it is good, `check_sha256` says.
    """
    try:
        kid = jwt.get_unverified_header(signature).get("kid")
    except BROKEN:
        kid = None
    return dict(next((key for key in keys if kid is not None and key.get("kid") == kid), keys[0]))


def check_sha256(
    sha256: str,
    released: dict[str, Any],
    *,
    public_key: dict[str, Any],
    run: str,
    digest: str,
    workflow: str,
    attempt: int,
) -> None:
    """Proves the bytes that have this SHA-256 (hex). `released`: the gateway's answer, with `node`; `public_key`: the
    node's JWK of the plan. NotProvenError with the reason.
    """
    what = f"The release {released['name']} of {released['node']}"
    if sha256 != released["sha256"]:
        raise NotProvenError(f"{what} has another checksum than the node said.")
    try:
        claims = verify(str(released["signature"]), [public_key], issuer=str(released["node"]), audience=run, typ=TYPE)
    except TokenError as error:
        raise NotProvenError(f"{what} has no valid signature of the node: {error}") from None
    expected = {"release": released["name"], "sha256": released["sha256"], "workflow": workflow, "digest": digest}
    for claim, value in expected.items():
        if claims.get(claim) != value:
            raise NotProvenError(f"{what}: the node signed another {claim}.")
    signed = claims.get("attempt")
    if not isinstance(signed, int) or signed > attempt:
        raise NotProvenError(f"{what}: the node signed another attempt than {attempt}.")
