"""A task's error is bounded once: what the gateway lets out is what Snakemake and the broker take in."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gdi.contracts.events import Event
from gdi.contracts.task_errors import LASTING, DenialClass, TaskError
from gdi.contracts.tes import from_json, to_json
from node_gateway.tasks.answer import Denial, Lens, render
from snakemake_tes_auth.tasks.reasons import failure

RUN = "r-" + "0" * 20
LONGEST = "A" * 40


def through(stderr: str, denial: Denial | None = None) -> TaskError:
    """What Snakemake reads of a failed task, by way of the gateway that strips standard error."""
    log = {"logs": [{"exit_code": 1, "stderr": stderr}]}
    task = from_json({"id": "1", "state": "EXECUTOR_ERROR", "logs": [log]})
    seen = to_json(
        render(
            task, "FULL", Lens(RUN, "bucket", False, frozenset({"VcfFormatError", "E", LONGEST, "A1"}), True), denial
        )
    )
    assert "stderr" not in str(seen)
    found = failure(from_json(seen))
    return TaskError(found.error_class, found.line, found.dataset, found.reason)


@pytest.mark.parametrize(
    "error", [TaskError("VcfFormatError", 40), TaskError("E"), TaskError(LONGEST, 9_999_999_999), TaskError("A1", 0)]
)
def test_what_a_script_says_arrives_whole(error: TaskError) -> None:
    assert TaskError.of_line(str(error)) == TaskError.of_metadata(error.metadata()) == error
    assert through(f"other words\n  {error} \n") == error
    event = Event(seq=1, time=0, kind="job", error_class=error.error_class, line=error.line)
    assert event.error_class == error.error_class


@pytest.mark.parametrize("class_", [LONGEST + "A", "<script>", "1A", "A-B", "", "A\u0001"])
def test_one_length_and_one_alphabet_of_error_classes(class_: str) -> None:
    assert TaskError.of_line(f"GDI-ERROR class={class_} line=1") is None
    assert TaskError.of_metadata({"gdi_error_class": class_}).error_class is None
    assert through(f"GDI-ERROR class={class_} line=1\n") == TaskError("TaskFailed")
    with pytest.raises(ValidationError):
        Event(seq=1, time=0, kind="job", error_class=class_)


def test_a_denial_of_the_gateway_wins_and_arrives_with_dataset_and_reason() -> None:
    said = through("GDI-ERROR class=Mine line=1\n", Denial("AccessDenied", "DS-A", "the grant ended"))
    assert said == TaskError("AccessDenied", None, "DS-A", "the grant ended")


def test_metadata_of_another_form_is_not_believed() -> None:
    odd = {"gdi_error_class": ["x"], "gdi_line": "-1", "gdi_dataset": "a b", "gdi_reason": "a\x1b[31mb" + "c" * 2000}
    error = TaskError.of_metadata(odd)
    assert (error.error_class, error.line, error.dataset) == (None, None, None)
    assert error.reason.startswith("a [31mb") and len(error.reason) == 1000


def test_a_denial_that_lasts_is_one_that_a_gateway_can_say_or_a_task_itself() -> None:
    assert {"AccessDenied", "NotFound", "NotCrypt4GH"} <= LASTING and "Unavailable" not in LASTING
    assert LASTING - set(DenialClass.__args__) == {"WrongKey", "MissingInput"}
