"""Every name has one pattern: the type at the edge, `matches` and the makers agree, for good and for bad names."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from gdi.contracts import ids

KINDS = {
    "DatasetId": (
        ids.DATASET_ID,
        ["EGAD00001000001", "A:b.c_d-e", "10.5072/abc", "https://doi.org/10.5072/a(b)1;2", "https://x.org/d?id=1&v=2/"],
        [
            "",
            ".a",
            "a b",
            "/a",
            "a//b",
            "a/../b",
            "a/.b",
            "a%2Fb",
            "a#b",
            "a*",
            "a@2",
            "a,b",
            "a\\b",
            "é",
            "https:///a",
        ],
    ),
    "NodeId": (ids.NODE_ID, ["node-a"], ["", "A", "1a", "node_a", "n" * 32]),
    "RunId": (ids.RUN_ID, ["r-" + "0" * 20], ["r-1", "r-" + "0" * 21, "R-" + "0" * 20, "r-" + "G" * 20]),
    "GrantId": (ids.GRANT_ID, ["g-" + "a" * 32], ["g-1", "g-" + "A" * 32]),
    "PodName": (ids.POD_NAME, ["a", "a-b"], ["", "-a", "a-", "A", "a" * 64]),
    "WorkflowName": (ids.WORKFLOW_NAME, ["allele-frequency"], ["", "-a", "A", "a_b", "a" * 64]),
    "ReleaseName": (ids.RELEASE_NAME, ["counts"], ["", "../x", "Counts"]),
    "RuleName": (ids.RULE_NAME, ["count_all", "R2"], ["", "a-b", "a" * 101]),
    "Sha256": (ids.SHA256, ["0" * 64], ["0" * 63, "A" * 64]),
    "Digest": (ids.DIGEST, ["sha256:" + "0" * 64], ["0" * 64, "sha512:" + "0" * 64]),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_type_and_the_pattern_judge_the_same(name: str) -> None:
    pattern, good, bad = KINDS[name]
    edge: TypeAdapter[str] = TypeAdapter(getattr(ids, name))
    for text in good:
        assert edge.validate_python(text) == text and ids.matches(pattern, text)
    for text in [*bad, *(g + "\n" for g in good), *(g + "\0" for g in good)]:
        assert not ids.matches(pattern, text), text
        with pytest.raises(ValidationError):
            edge.validate_python(text)


NAMES = [  # id, its name as one part of a path
    ("EGAD00001000001", "EGAD00001000001"),
    ("A:b.c_d-e~f", "A:b.c_d-e~f"),
    ("10.5072/abc", "10.5072%2Fabc"),
    ("https://example.org/datasets/abc", "https:%2F%2Fexample.org%2Fdatasets%2Fabc"),
    ("10.1002/(SICI)1097-0258;2-2", "10.1002%2F%28SICI%291097-0258%3B2-2"),
    ("https://x.org/d?id=1&v=2", "https:%2F%2Fx.org%2Fd%3Fid%3D1%26v%3D2"),
]
NO_NAMES = [
    "10.5072/abc",
    "10.5072%2fabc",
    "10.5072%252Fabc",
    "a%2F..%2Fb",
    "%2E%2E",
    "a%00b",
    "a%0Ab",
    "%41",
    "a%2",
    "a(b)",
]


@pytest.mark.parametrize(("dataset", "name"), NAMES)
def test_a_dataset_has_one_name(dataset: str, name: str) -> None:
    assert ids.dataset_name(dataset) == name and ids.dataset_of_name(name) == dataset
    assert ids.is_dataset_id(dataset) and "/" not in name


@pytest.mark.parametrize("name", [*NO_NAMES, "a" * 129, "é", ""])
def test_what_is_spelt_otherwise_is_no_name(name: str) -> None:
    assert ids.dataset_of_name(name) is None


def test_what_the_makers_make_has_the_type() -> None:
    run = ids.make_run_id("allele-frequency", "manual__1")
    assert run == "r-c74723a5e54f4ca6678a" and ids.matches(ids.RUN_ID, run)
    assert ids.make_run_id("a", "b") != ids.make_run_id("ab", "")
    assert ids.matches(ids.RUN_ID, ids.make_run_id("\udc80", "x")), "a page may be asked for by any name"
    assert ids.make_run_id("\udc80", "x") != ids.make_run_id("\udc81", "x")
    assert ids.matches(ids.GRANT_ID, ids.make_grant_id()) and ids.make_grant_id() != ids.make_grant_id()
    pod = ids.make_pod_name(run, "n" * 31, 1, 1)
    assert ids.matches(ids.POD_NAME, pod) and ids.node_of_pod(pod) == "n" * 31
    assert ids.make_pod_name(run, "node-2", 3, 1) == f"{run}-node-2-3-1"
    assert ids.node_of_pod(f"{run}-node-2-3-1") == "node-2" and ids.node_of_pod("airflow") is None
