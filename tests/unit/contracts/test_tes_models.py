"""A task as py-tes has it, to JSON and from any JSON that a server may send. Each test is named after the promise it
keeps.
"""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tes.models import Executor, Input, Output, Resources, Task
from tes.utils import unmarshal

from gdi.contracts.tes import FAILED, FINAL, LIVE, STATES, changed, from_json, state_of, to_json

WHOLE: dict[str, Any] = {
    "id": "t1",
    "state": "COMPLETE",
    "name": "count[i=1]",
    "description": "x",
    "inputs": [
        {"url": "sda://D/a.c4gh", "path": "/w/a", "type": "FILE", "name": "n", "description": "d", "streamable": True},
        {"content": "", "path": "/w/b", "type": "FILE"},
    ],
    "outputs": [{"url": "s3://b/o", "path": "/w/o/*", "path_prefix": "/w/o", "type": "DIRECTORY", "name": "n"}],
    "resources": {
        "cpu_cores": 2,
        "ram_gb": 1.5,
        "disk_gb": 10,
        "preemptible": False,
        "zones": ["a"],
        "backend_parameters": {"vm": "large"},
        "backend_parameters_strict": True,
    },
    "executors": [
        {
            "image": "i:1",
            "command": ["a", ""],
            "workdir": "/w",
            "stdin": "/w/i",
            "stdout": "/w/o",
            "stderr": "/w/e",
            "env": {"A": "b"},
            "ignore_error": True,
        }
    ],
    "volumes": ["/v"],
    "tags": {"gdi-run": "r"},
    "logs": [
        {
            "start_time": "2026-01-01T10:00:05.123000Z",
            "end_time": "2026-01-01T10:01:05Z",
            "metadata": {"a": "1"},
            "logs": [{"start_time": "2026-01-01T10:00:10Z", "stdout": "o", "stderr": "e", "exit_code": 0}],
            "outputs": [{"url": "s3://b/o", "path": "/w/o", "size_bytes": "9007199254740993"}],
            "system_logs": ["s"],
        }
    ],
    "creation_time": "2026-01-01T10:00:00Z",
}
Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def anything_at(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """A whole task with `value` at this one place."""
    body: Any = json.loads(json.dumps(WHOLE))
    place = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return body  # type: ignore[no-any-return]


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place of a JSON value at which another value may stand."""
    inner = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [found for key, item in inner for found in [(*path, key), *places(item, (*path, key))]]


def test_a_task_with_every_field_comes_back_as_it_was() -> None:
    assert to_json(from_json(WHOLE)) == WHOLE


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(places(WHOLE)), Json)
def test_whatever_a_server_puts_into_a_task_it_is_read_and_can_be_written_again(
    path: tuple[str | int, ...], value: Any
) -> None:
    task = from_json(anything_at(path, value))
    written = json.loads(json.dumps(to_json(task), allow_nan=False))
    assert to_json(from_json(written)) == written and state_of(task) in STATES


@pytest.mark.parametrize(
    ("field", "value", "left"),
    [
        ("id", 3, "3"),
        ("state", "DONE", "UNKNOWN"),
        ("state", ["COMPLETE"], "UNKNOWN"),
        ("state", None, "UNKNOWN"),
        ("tags", {"a": 1, "b": None, "c": True}, {"a": "1"}),
        ("resources", {"cpu_cores": 2.0, "ram_gb": "1.5", "disk_gb": -1, "new": 1}, {"cpu_cores": 2, "ram_gb": 1.5}),
        ("resources", {"cpu_cores": 2.5, "ram_gb": float("nan"), "disk_gb": 1e300}, {}),
        ("logs", [None, "x", {"start_time": "soon", "outputs": [{"size_bytes": "many"}]}], [{"outputs": [{}]}]),
        ("creation_time", "2026-01-01T10:00:00.123456789Z", "2026-01-01T10:00:00.123456Z"),
        ("creation_time", "2026-01-01T10:00:00", "2026-01-01T10:00:00Z"),
        ("creation_time", "2" * 100, None),
        ("new_in_tes_2", {"a": 1}, None),
    ],
)
def test_what_tes_does_not_know_is_left_out_and_an_unknown_state_is_unknown(field: str, value: Any, left: Any) -> None:
    assert to_json(from_json({"id": "t", field: value})).get(field) == left


def test_an_answer_keeps_the_id_that_it_was_asked_by() -> None:
    assert from_json({"id": "other", "state": "RUNNING"}, identifier="t1").id == "t1"


def test_there_is_one_set_of_states_and_it_is_that_of_py_tes() -> None:
    validator = next(a.validator for a in Task.__attrs_attrs__ if a.name == "state")
    assert set(validator.validator.options) == STATES and len(STATES) == 11
    assert LIVE | FINAL == STATES and not LIVE & FINAL and {"COMPLETE"} == FINAL - FAILED and "CANCELING" in LIVE


def test_what_is_written_is_what_py_tes_itself_reads() -> None:
    task = Task(
        inputs=[Input(url="s3://b/a", path="/a")],
        outputs=[Output(url="s3://b/o", path="/o")],
        resources=Resources(cpu_cores=1),
        executors=[Executor(image="i", command=["true"])],
        creation_time=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert unmarshal(json.dumps(to_json(task)), Task) == task and task.is_valid() == (True, None)


def test_a_value_of_another_type_is_refused_where_it_is_set() -> None:
    with pytest.raises(TypeError):
        changed(Task(), tags="x")
    with pytest.raises(ValueError, match="state"):
        changed(Task(), state="DONE")


def test_py_tes_works_without_the_tools_of_its_own_tests_and_documents() -> None:
    code = "import sys; sys.modules.update(pytest=None, sphinx=None, sphinx_rtd_theme=None); import gdi.contracts.tes"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_our_images_leave_out_is_what_py_tes_requires_and_does_not_use() -> None:
    """A new py-tes that requires more, or less, is looked at before it goes into an image and a manual."""
    source = (Path(__file__).parents[3] / "packaging" / "images" / "environment.py").read_text()
    unwanted = set(ast.literal_eval(re.search(r"^UNWANTED = (\[.*?\])$", source, re.MULTILINE)[1]))  # type: ignore[index]
    required = {
        re.split(r"[^A-Za-z0-9_-]", line)[0].replace("_", "-") for line in importlib.metadata.requires("py-tes") or []
    }
    assert required - unwanted == {"attrs", "python-dateutil", "requests"} and unwanted <= required
    manual = (Path(__file__).parents[3] / "docs" / "snakemake.md").read_text()
    assert all(name in manual for name in ("py-tes", *unwanted))
