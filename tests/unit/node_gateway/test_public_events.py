"""What a workflow may tell the coordinator by its events: of one that nobody approved nothing that it can choose."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gdi.contracts.events import Event
from node_gateway.agent.public_events import Telling, failed_part, public_events

GENOTYPES = "0|1 1|1 HG00096"
RULES = frozenset({"count", "gather"})


def sent(*events: dict[str, Any], approved: bool = False, progress: Any = "jobs", lines: bool = False) -> str:
    made = [Event.model_validate({"seq": n, "time": 1000.25, **one}) for n, one in enumerate(events, 1)]
    telling = Telling(approved, RULES, progress, lines, frozenset({"VcfFormatError"}), frozenset({"EGAD1"}))
    found = public_events(made, telling)
    return json.dumps([e.model_dump(exclude_defaults=True) for e in found])


SMUGGLING: list[dict[str, Any]] = [
    {"kind": "note", "message": GENOTYPES},
    {"kind": "node", "state": "failed", "message": GENOTYPES, "dataset": "EGAD1"},
    {"kind": "rules", "counts": {GENOTYPES: 1}},
    {"kind": "job", "rule": GENOTYPES, "job": "1", "state": "done"},
    {"kind": "job", "rule": "invented_0_1_1_1", "job": "1", "state": "done"},
    {"kind": "job", "rule": "count", "job": "1", "state": "done", "wildcards": {"x": GENOTYPES}},
    {"kind": "job", "rule": "count", "job": "1", "state": "failed", "message": GENOTYPES},
    {"kind": "job", "rule": "count", "job": "1", "state": "failed", "error_class": "Het01Hom11", "line": 1101},
    {"kind": "job", "rule": "count", "job": "1", "state": "failed", "exit_code": 101},
    {"kind": "job", "rule": "count", "job": "1", "state": "done", "usage": {"output_bytes": 1101}},
    {"kind": "job", "rule": "count", "job": "1", "state": "done", "task": GENOTYPES},
    {"kind": "job", "rule": "count", "job": GENOTYPES, "state": "done"},
    {"kind": "job", "rule": "count", "job": "0111010101", "state": "done"},
    {"kind": "job", "rule": "count", "job": "1", "state": "done", "tries": 110101},
    {"kind": "job", "rule": "count", "job": "1", "state": "done", "time": 1101.0},
    {"kind": "rules", "counts": {"count": 11010111010}},
    {"kind": "progress", "done": 11010111010, "total": 11010111010},
    {"kind": "progress", "done": 1, "total": 1, "seq": 11010111010},
]


def test_genotypes_in_any_field_of_an_unapproved_workflow_stay() -> None:
    for one in SMUGGLING:
        text = sent(one)
        for trace in ("0|1", "HG00096", "invented", "Het01", "1101", "0111010101", '"exit_code": 101', "EGAD1"):
            assert trace not in text, (one, text)


def test_times_are_whole_seconds_and_bytes_stay() -> None:
    job = {"kind": "job", "rule": "count", "job": "1", "state": "done"}
    text = sent({**job, "usage": {"command_s": 1.4567, "output_bytes": 77}}, approved=True)
    assert '"time": 1000.0' in text and '"command_s": 1.0' in text and "77" not in text


def test_an_approved_workflow_tells_classes_and_wildcards_and_lines_where_the_policy_says_so() -> None:
    job = {
        "kind": "job",
        "rule": "count",
        "job": "1",
        "state": "failed",
        "error_class": "VcfFormatError",
        "line": 42,
        "wildcards": {"region": "3"},
    }
    closed, rules, lines = (
        sent(job, approved=True),
        sent(job, approved=True, progress="rules"),
        sent(job, approved=True, lines=True),
    )
    assert "VcfFormatError" in closed and '"region": "3"' in closed and "42" not in closed
    assert "region" not in rules and "42" in lines


def test_how_the_part_ended_is_the_agents_to_tell() -> None:
    for state in ("success", "failed", "cancelled"):
        assert sent({"kind": "node", "state": state}, approved=True) == "[]"
    assert "running" in sent({"kind": "node", "state": "running"})


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["job", "note", "node", "progress", "rules"])},
        optional={
            "rule": st.text(max_size=40),
            "job": st.just("7"),
            "message": st.text(max_size=80),
            "task": st.text(max_size=40),
            "state": st.sampled_from(["running", "done", "failed"]),
            "wildcards": st.dictionaries(st.text(max_size=9), st.text(max_size=30), max_size=3),
        },
    )
)
def test_whatever_an_unapproved_workflow_writes_nothing_of_its_own_choice_is_told(event: dict[str, Any]) -> None:
    for one in json.loads(sent(event)):
        assert set(one) <= {
            "seq",
            "time",
            "kind",
            "state",
            "rule",
            "job",
            "tries",
            "error_class",
            "exit_code",
            "counts",
        }
        assert one.get("rule", "count") in RULES and one.get("error_class", "TaskFailed") == "TaskFailed"


FREE: dict[str, Any] = {"kind": "job", "rule": "count", "job": "1", "state": "failed", "message": f"{GENOTYPES} EGAD1"}


def test_of_an_approved_workflow_no_free_text_is_told_either() -> None:
    text = sent({**FREE, "error_class": "VcfFormatError", "line": 42, "exit_code": 101}, approved=True)
    assert "rule count failed on dataset EGAD1 with VcfFormatError" in text
    for trace in ("0|1", "HG00096", "101", "42"):
        assert trace not in text, text
    invented = {**FREE, "error_class": "Het01Hom11", "dataset": "EGAD-NOT-THE-ORDERS", "task": GENOTYPES}
    text = sent(invented, {**FREE, "state": "queued"}, approved=True)
    assert "Het01" not in text and "NOT-THE" not in text and "0|1" not in text and '"error_class": "TaskFailed"' in text


def test_how_snakemake_itself_ended_is_told_by_its_own_words_only() -> None:
    telling = Telling(True, RULES, classes=frozenset(), datasets=frozenset({"EGAD1", "EGAD12"}))
    end = {"seq": 1, "time": 1.0, "kind": "node", "state": "failed"}
    words = Event.model_validate({**end, "message": f"MissingInputException in rule {GENOTYPES}: EGAD12/a.vcf"})
    assert failed_part(words, telling) == (
        "Snakemake ended with MissingInputException on dataset EGAD12; the node has its log",
        "EGAD12",
    )
    assert failed_part(Event.model_validate({**end, "message": GENOTYPES}), telling) == (
        "Snakemake ended; the node has its log",
        None,
    )
