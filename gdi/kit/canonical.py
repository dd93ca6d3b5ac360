"""Canonical JSON and digests: the same value has the same bytes at the portal, in Airflow and at the broker."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any) -> bytes:  # any JSON value
    """UTF-8 JSON with sorted keys and no white space; whole floats become integers (as a browser's JSON does).
    ValueError on NaN or infinity.
    """
    return json.dumps(
        _normal(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _normal(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("numbers must be finite")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, Mapping):
        return {str(k): _normal(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_normal(v) for v in value]
    return value


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def parameters_hash(parameters: Mapping[str, Any]) -> str:
    """The hash a ticket is bound to: SHA-256 (hex) over canonical JSON of `{"datasets": [...], ...parameters}`,
    datasets as a sorted set.
    """
    value = dict(parameters)
    value["datasets"] = sorted({str(d) for d in value.get("datasets") or []})
    return sha256_hex(canonical_json(value))
