"""Visas as an issuer signs them, and as one must not."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISS, JKU, USER, DATASET = "https://visas.example/", "https://visas.example/jwks", "alice@example.org", "EGAD1"
GONE = "(not there)"
EC, RSA = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
OTHER, P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": "1", **more}


def without(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value != GONE}


def signed(header: dict[str, Any], claims: dict[str, Any], visa: Any, key: Any = EC, algorithm: str = "ES256") -> str:
    now = int(time.time())
    body = {"iss": ISS, "sub": USER, "iat": now, "exp": now + 3600, "jti": "x"}
    good = {
        "type": "ControlledAccessGrants",
        "value": DATASET,
        "source": "https://dac.example",
        "by": "dac",
        "asserted": now,
    }
    shown = without({**good, **visa}) if isinstance(visa, dict) else visa
    payload = without({**body, "ga4gh_visa_v1": shown, **claims})
    head = {"kid": "1", "jku": JKU, "typ": "vnd.ga4gh.visa+jwt", **header}
    return by_hand(without({"alg": algorithm, **head}), payload, key, algorithm)


def by_hand(header: dict[str, Any], payload: dict[str, Any], key: Any, algorithm: str) -> str:
    """For what PyJWT would not sign."""
    parts = [base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=") for p in (header, payload)]
    message = b".".join(parts)
    signer = jwt.get_algorithm_by_name(algorithm)
    signature = signer.sign(message, signer.prepare_key(key))
    return b".".join([message, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()
