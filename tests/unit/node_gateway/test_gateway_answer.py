"""A task on its way in and out of the gateway: nothing is lost on the way in, nothing of the node's own comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdi.contracts.tes import View, from_json, to_json
from node_gateway.tasks.answer import Denial, Lens, printed, render
from node_gateway.tasks.models import TaskBody

RUN = "r-0123456789abcdef0123"
OWN = (
    "gdic_capability",
    "own-bucket",
    "the-intent",
    "printed-words",
    "system-words",
    "own-zone",
    "own-remark",
    "inline",
)
FROM_TES: dict[str, Any] = {
    "id": "t1",
    "state": "EXECUTOR_ERROR",
    "name": "count",
    "inputs": [
        {"url": "sda://D/a.c4gh#gdic_capability", "path": "/gdi/work/a", "type": "FILE"},
        {"url": f"s3://own-bucket/{RUN}/in", "path": "/gdi/work/in", "type": "FILE"},
        {"url": "s3://own-bucket/another/in", "path": "/gdi/work/other", "type": "FILE"},
        {"content": "inline", "path": "/gdi/work/c", "type": "FILE"},
    ],
    "outputs": [{"url": f"s3://own-bucket/{RUN}/out", "path": "/gdi/work/out", "type": "FILE"}],
    "resources": {"cpu_cores": 2, "ram_gb": 1.5, "zones": ["own-zone"]},
    "executors": [{"image": "gdi-task:1", "command": ["x"], "workdir": "/gdi/work", "env": {"A": "b"}}],
    "volumes": ["/gdi/v"],
    "tags": {"gdi-run": RUN, "gdi-intent": "the-intent"},
    "logs": [
        {
            "start_time": "2026-01-01T10:00:00Z",
            "end_time": "2026-01-01T10:00:01.500000Z",
            "metadata": {"cpu_seconds": "1.5", "host": "remark", "gdi_reason": "1"},
            "logs": [{"start_time": "2026-01-01T10:00:00Z", "exit_code": 1, "stdout": "printed-words", "stderr": "x"}],
            "outputs": [
                {"url": f"s3://own-bucket/{RUN}/out", "path": "/gdi/work/out", "size_bytes": "12"},
                {"url": "s3://own-bucket/another", "path": "/gdi/work/x", "size_bytes": "1"},
            ],
            "system_logs": ["system-words"],
        }
    ],
    "creation_time": "2026-01-01T09:59:00Z",
}
IN: dict[str, Any] = {
    "name": "count",
    "description": "d",
    "inputs": [{"url": "sda://D/a.c4gh", "path": "/gdi/work/a"}, {"content": "x", "path": "/b", "streamable": True}],
    "outputs": [{"url": f"workspace://{RUN}/o", "path": "/gdi/o", "path_prefix": "/gdi", "type": "DIRECTORY"}],
    "resources": {"cpu_cores": 10**30, "ram_gb": 0.5, "disk_gb": 2, "preemptible": True},
    "executors": [{"image": "i:1", "command": ["a", ""], "workdir": "/gdi", "env": {"A": ""}, "ignore_error": False}],
    "volumes": ["/gdi/v"],
    "tags": {"gdi-job": "k"},
}


@pytest.mark.parametrize("body", [IN, {"executors": [{"image": "i", "command": ["x"]}]}])
def test_what_passed_the_edge_is_what_the_gateway_judges_and_sends(body: dict[str, Any]) -> None:
    edge = TaskBody.model_validate(body)
    assert to_json(edge.task()) == edge.model_dump(mode="json", exclude_none=True)


@pytest.mark.parametrize(
    ("tags", "shown"),
    [
        ({"foo": "bar"}, {"foo": "bar"}),
        ({}, {}),
        ({"gdi-job": "k", "gdi-rule": "r"}, {"gdi-job": "k", "gdi-rule": "r", "gdi-run": RUN, "gdi-try": "1"}),
    ],
)
def test_a_client_that_knows_only_tes_sees_the_tags_that_it_sent(tags: dict[str, str], shown: dict[str, str]) -> None:
    task = from_json(FROM_TES | {"tags": {**tags, "gdi-run": RUN, "gdi-try": "1", "gdi-intent": "the-intent"}})
    assert render(task, "BASIC", Lens(RUN, "own-bucket", logs=False), None).tags == shown


def test_the_outside_sees_its_own_names_and_nothing_of_the_nodes() -> None:
    seen = to_json(render(from_json(FROM_TES), "BASIC", Lens(RUN, "own-bucket", logs=False), None))
    assert not [word for word in OWN if word in json.dumps(seen)]
    assert [file.get("url") for file in seen["inputs"]] == ["sda://D/a.c4gh", f"workspace://{RUN}/in", "", None]
    assert seen["outputs"][0]["url"] == f"workspace://{RUN}/out" and seen["resources"] == {
        "cpu_cores": 2,
        "ram_gb": 1.5,
    }
    (log,) = seen["logs"]
    assert log["metadata"] == {"gdi_error_class": "TaskFailed"} and log["logs"][0]["exit_code"] == 1
    assert log["outputs"] == [{"url": f"workspace://{RUN}/out", "path": "/gdi/work/out", "size_bytes": "4096"}]
    assert (seen["creation_time"], log["end_time"]) == ("2026-01-01T09:59:00Z", "2026-01-01T10:00:01Z")


def test_what_lies_in_a_folder_is_not_told_unless_the_data_is_open() -> None:
    top = f"s3://own-bucket/{RUN}/d"
    made = [{"url": f"{top}/genotype-{i}", "path": f"/gdi/work/d/{i}", "size_bytes": "12"} for i in range(3)]
    outputs = [{"url": top, "path": "/gdi/work/d", "type": "DIRECTORY"}]
    body = {**FROM_TES, "outputs": outputs, "logs": [{"outputs": made}]}
    closed, open_ = (render(from_json(body), "BASIC", Lens(RUN, "own-bucket", logs=logs), None) for logs in (0, 1))
    assert [len(seen.logs[0].outputs or []) for seen in (closed, open_) if seen.logs] == [0, 3]


def test_a_denial_stands_in_the_first_and_the_last_try() -> None:
    body = {**FROM_TES, "logs": [{"metadata": {"a": "1"}}, {}, {}]}
    seen = render(from_json(body), "BASIC", Lens(RUN, "b", logs=False), Denial("AccessDenied", "D", "withdrawn"))
    told = {"gdi_error_class": "AccessDenied", "gdi_dataset": "D", "gdi_reason": "withdrawn"}
    assert [log.metadata for log in seen.logs or []] == [told, {}, told]


Anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(FROM_TES)), Anything),
    st.dictionaries(st.sampled_from(sorted(FROM_TES["logs"][0])), Anything),
    st.sampled_from(["MINIMAL", "BASIC", "FULL"]),
)
def test_whatever_the_nodes_tes_answers_it_is_shown_without_the_nodes_own(
    top: dict[str, Any], log: dict[str, Any], view: View
) -> None:
    task = from_json({**FROM_TES, "logs": [{**FROM_TES["logs"][0], **log}], **top}, identifier="t1")
    seen = json.dumps(to_json(render(task, view, Lens(RUN, "own-bucket", logs=False), None)), allow_nan=False)
    assert not [word for word in OWN if word in seen and (word, view) != ("inline", "FULL")]
    printed(task)
