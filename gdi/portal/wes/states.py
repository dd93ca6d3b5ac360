"""Our states as the eleven of WES. Five are never answered: see NEVER."""

from __future__ import annotations

from typing import Any

from sqlalchemy import RowMapping

from gdi.contracts.run_endings import RunStanding
from gdi.portal.wes.models import WesState

STATES: dict[RunStanding, WesState] = {
    "starting": "QUEUED",
    "queued": "QUEUED",
    "admitting": "INITIALIZING",
    "running": "RUNNING",
    "waiting": "RUNNING",
    "stopping": "RUNNING",
    "succeeded": "COMPLETE",
    "empty": "COMPLETE",
    "failed": "EXECUTOR_ERROR",
    "refused": "SYSTEM_ERROR",
    "stopped": "CANCELED",
}
NEVER: dict[WesState, str] = {
    "UNKNOWN": "a run is listed only where its start was taken, and then its last state is known",
    "PAUSED": "clients stop at it; a run that waits for a reviewer is RUNNING, with the reason in a tag",
    "PREEMPTED": "a pod that is evicted hands its work over, and the run goes on",
}
WAITING_TAG, WHY_TAG = "gdi-waiting-for", "gdi-why"


def state_of(standing: RunStanding, fault: str, stop_requested: bool) -> WesState:
    """CANCELING only while what its user stopped is being ended; SYSTEM_ERROR where the fault is not the workflow's."""
    if standing == "stopping" and stop_requested:
        return "CANCELING"
    if standing == "failed" and fault != "workflow":
        return "SYSTEM_ERROR"
    return STATES[standing]


def row_state(row: RowMapping) -> WesState:
    return state_of(row["standing"], row["fault"], bool(row["stop_requested_at"]))


def tags_of(row: RowMapping) -> dict[str, str]:
    """The caller's own, and the sentence of how the run stands; what it waits for where that is a person."""
    tags: dict[str, Any] = {**row["tags"], WHY_TAG: row["sentence"]}
    return {**tags, WAITING_TAG: row["sentence"]} if row["standing"] == "waiting" else tags
