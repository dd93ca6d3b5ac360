"""Parameters are bounded where they travel, and their schemas are checked in bounded time and memory."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gdi.contracts.packed_workflow import BadPackError, unpacked
from gdi.contracts.parameters import MAX_ITEMS, MAX_PARAMETERS, Parameters, StartParameters, mistakes

YAML = b"name: counts\ntitle: Counts\nversion: '1'\n"
VARIANTS = {"type": "array", "uniqueItems": True, "items": {"type": "string", "pattern": "^[0-9]+$"}}


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def pack(**files: bytes) -> bytes:
    named = {name.replace("__", "/").replace("_", "."): content for name, content in files.items()}
    parts = sorted(named.items(), key=lambda item: item[0].split("/"))
    return b"".join(f"{name}\0{len(content)}\0".encode() + content for name, content in parts)


def test_a_bound_in_bytes_holds_for_what_is_signed_and_leaves_room_for_datasets() -> None:
    most = TypeAdapter(Parameters)
    assert most.validate_python({"a": "x" * (MAX_PARAMETERS - 10)})
    for large in ("x" * MAX_PARAMETERS, "é" * (MAX_PARAMETERS // 5)):  # é is six letters in ASCII
        with pytest.raises(ValidationError, match="more than"):
            most.validate_python({"a": large})
    start = TypeAdapter(StartParameters).validate_python({"a": "x" * 1_100_000})
    assert most.validate_python({**start, "datasets": ["D" * 128] * 1000})


def test_what_is_too_large_is_told_by_its_size_alone() -> None:
    within = {**VARIANTS, "maxItems": 1000}
    assert mistakes(schema(v=within), {"v": ["1"] * 1001}) == ["v: has 1001 items; at most 1000 are taken"]
    assert "at most 50000" in mistakes(schema(v=VARIANTS), {"v": ["1"] * (MAX_ITEMS + 1)})[0]
    assert "at most 3" in mistakes(schema(v={"type": "string", "maxLength": 3}), {"v": "xxxx"})[0]
    assert "50001 properties" in mistakes(schema(v={"type": "object"}), {"v": dict.fromkeys(map(str, range(50001)))})[0]


@pytest.mark.parametrize("kind", ["mixed", "wrong", "right"])
def test_many_items_cost_little(kind: str) -> None:
    """Mixed types made jsonschema compare each item with each: 79 kB took 8 s."""
    items: list[Any] = {
        "mixed": [1 if i % 2 else f"x{i}" for i in range(20_000)],
        "wrong": [0] * 20_000,
        "right": [str(i) for i in range(20_000)],
    }[kind]
    began = time.process_time()
    found = mistakes(schema(v=VARIANTS), {"v": items})
    assert time.process_time() - began < 5
    assert len(found) == (0 if kind == "right" else 20)


def test_unique_items_are_those_of_json() -> None:
    unique = schema(v={"type": "array", "uniqueItems": True})
    for same in ([1, 1], [{"a": 1, "b": 2}, {"b": 2, "a": 1}], ["x", "x"]):
        assert mistakes(unique, {"v": same}) == ["v: an item is there twice"]
    assert mistakes(unique, {"v": [1, "1", True, None, [1], {"a": 1}]}) == []


def test_a_pack_with_aliases_or_with_names_that_no_folder_takes_is_none() -> None:
    assert unpacked(pack(Snakefile=b"", workflow_yaml=YAML)).name == "counts"
    bomb = YAML + b"parameters:\n  a: &a {title: A, allOf: [{type: string}]}\n  b: {title: B, allOf: [*a, *a]}\n"
    with pytest.raises(BadPackError, match=r"workflow\.yaml is not one"):
        unpacked(pack(Snakefile=b"", workflow_yaml=bomb))
    with pytest.raises(BadPackError, match=r"workflow\.yaml is not one"):
        unpacked(pack(Snakefile=b"", workflow_yaml=YAML + b"#" * 300_000))
    with pytest.raises(BadPackError, match="a file and a folder"):
        unpacked(pack(Snakefile=b"", workflow_yaml=YAML, a=b"", a__b=b""))
    with pytest.raises(BadPackError, match="no relative path"):
        unpacked(pack(Snakefile=b"", workflow_yaml=YAML, **{"a" * 256: b""}))


def test_what_a_newer_workflow_says_and_this_version_does_not_know_is_named() -> None:
    newer = YAML + b"weather: fine\n" + b"'<b>x</b>': 1\n"
    with pytest.raises(BadPackError, match=r"has what this version does not know: weather$"):
        unpacked(pack(Snakefile=b"", workflow_yaml=newer))
