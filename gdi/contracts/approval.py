"""A reviewer's signature over a workflow: a JWS (RFC 7515, ES256) beside rules.lock, which says that a person read this
version. Nodes trust the reviewers whose keys their policy lists.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import jwt
from pydantic import BaseModel, Field, ValidationError

from gdi.contracts.ids import Digest, KindName, Label, WorkflowName
from gdi.contracts.workflow import Workflow
from gdi.contracts.workflow_files import APPROVALS
from gdi.kit.canonical import canonical_json, sha256_hex
from gdi.kit.jose import BROKEN, SigningKey, TokenError, verify

TYPE = "workflow-approval+jwt"
MAX_APPROVALS, MAX_CHARACTERS = 20, 20_000


class ApprovalClaims(BaseModel):
    """What a reviewer signs, beside `iss` (the key's id in policies), `iat` and `exp`. `schema`: SHA-256 of the
    parameters' schema as canonical JSON. Images are named as the workflow's `needs.images` has them.
    """

    name: WorkflowName
    version: Annotated[str, Field(max_length=50)]
    digest: Digest
    images: list[Label] = Field(default_factory=list, max_length=50)
    kinds: list[KindName] = Field(default_factory=list, max_length=20)
    parameters: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    reviewer: Label


def claims_for(workflow: Workflow, digest: str, reviewer: str) -> ApprovalClaims:
    return ApprovalClaims(
        name=workflow.name,
        version=workflow.version,
        digest=digest,
        images=sorted(set(workflow.needs.images)),
        kinds=sorted({release.kind for release in workflow.releases}),
        parameters=sha256_hex(canonical_json(workflow.schema_of_parameters())),
        reviewer=reviewer,
    )


def sign(claims: ApprovalClaims, key: SigningKey, key_id: str, *, lifetime: float) -> str:
    """The JWS. `lifetime` in seconds."""
    return key.sign({**claims.model_dump(), "iss": key_id}, lifetime=lifetime, typ=TYPE)


def check(token: str, key_id: str, public_key: dict[str, Any], wanted: ApprovalClaims) -> None:
    """Whether this key signed exactly this version: TokenError where it did not, or its time is over."""
    found = verify(token, [public_key], issuer=key_id, audience=None, typ=TYPE)
    try:
        claims = ApprovalClaims.model_validate(found)
    except ValidationError:
        raise TokenError("it is no approval of a workflow") from None
    if claims.model_copy(update={"reviewer": wanted.reviewer}) != wanted:
        raise TokenError("it approves another version")


def digest_in(token: str) -> str:
    """Which version a signature is about, unproven; empty where that cannot be read."""
    try:
        return str(jwt.decode(token, options={"verify_signature": False}).get("digest", ""))
    except BROKEN:
        return ""


def read(folder: Path) -> list[str]:
    """The signatures beside a catalogue entry; none where there is no file. What is too much is left out."""
    try:
        text = (folder / APPROVALS).read_text()
    except (OSError, UnicodeDecodeError):
        return []
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and len(line) <= MAX_CHARACTERS][:MAX_APPROVALS]


def loose_parameters(workflow: Workflow) -> list[str]:
    """Parameters that may be any text: a text needs an `enum`, or an anchored pattern of letters, digits and `._:-`."""
    return [name for name, schema in workflow.parameters.items() if not _bounded(schema)]


SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-<>[]{}(),+*?|^$\\dw")


def _bounded(schema: dict[str, Any], depth: int = 0) -> bool:
    if depth > 10:
        return False
    if "enum" in schema or "const" in schema:
        return True
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "array" in kinds and not (isinstance(schema.get("items"), dict) and _bounded(schema["items"], depth + 1)):
        return False
    if None in kinds or ("object" in kinds and not _bounded_object(schema, depth)):
        return False
    if "string" not in kinds:
        return True
    pattern = schema.get("pattern")
    return isinstance(pattern, str) and pattern[:1] == "^" and pattern[-1:] == "$" and _plain(pattern)


def _bounded_object(schema: dict[str, Any], depth: int) -> bool:
    """Declared members, and others only by bounded names and of a bounded form."""
    declared, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    if not all(isinstance(one, dict) and _bounded(one, depth + 1) for one in declared.values()):
        return False
    if others is False:
        return True
    names = schema.get("propertyNames")
    bounded_names = isinstance(names, dict) and _bounded({"type": "string", **names}, depth + 1)
    return bounded_names and isinstance(others, dict) and _bounded(others, depth + 1)


def _plain(pattern: str) -> bool:
    """Whether a pattern can match nothing but letters, digits, `._:-`, and the `<>*+` of VCF's alleles: no dot outside
    a class, no negated class, no alternative outside a group, which the anchors would not hold.
    """
    inside, depth = False, 0
    previous = ""
    for character in pattern:
        if character not in SAFE or (character == "." and not inside and previous != "\\"):
            return False
        if (character == "^" and previous == "[") or (character == "|" and depth == 0):
            return False
        depth += {"(": 1, ")": -1}.get(character, 0) * (not inside)
        inside = character == "[" or (inside and character != "]")
        previous = character
    return "\\w" not in pattern
