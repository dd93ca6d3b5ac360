"""Fetching a release and proving that it is what the node signed: checksum, signature, run, name, workflow and
attempt.
"""

from __future__ import annotations

from typing import Any

from gdi.kit.canonical import sha256_hex
from gdi.kit.jose import TokenError, verify


class NotProvenError(Exception):
    """A release is not what its node signed; the message names node and release."""


def check(
    data: bytes,
    released: dict[str, Any],
    *,
    public_key: dict[str, Any],
    run: str,
    digest: str,
    workflow: str,
    attempt: int,
) -> None:
    """`released` is what the gateway said (ReleaseOperator's result); `public_key` the node's JWK of the plan.
    NotProvenError with the reason.
    """
    what = f"The release {released['name']} of {released['node']}"
    if sha256_hex(data) != released["sha256"]:
        raise NotProvenError(f"{what} has another checksum than the node said.")
    try:
        claims = verify(
            str(released["signature"]), [public_key], issuer=str(released["node"]), audience=run, typ="release+jwt"
        )
    except TokenError as error:
        raise NotProvenError(f"{what} has no valid signature of the node: {error}") from None
    wanted = {"release": released["name"], "sha256": released["sha256"], "workflow": workflow, "digest": digest}
    for claim, value in wanted.items():
        if claims.get(claim) != value:
            raise NotProvenError(f"{what}: the node signed another {claim}.")
    signed = claims.get("attempt")
    if not isinstance(signed, int) or signed > attempt:
        raise NotProvenError(f"{what}: the node signed another attempt than {attempt}.")
