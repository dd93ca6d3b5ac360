"""Versions of an answer. Other releases make the next one: the one before is kept beside it, and its links stay. The
same releases again, as by a task's second try, are the same version.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gdi.contracts import broker_api as m
from gdi.contracts.orders import ENDED_ORDER
from gdi.contracts.progress import Progress
from gdi_operators.results.folder import SUMMARY, TITLES, AnswerVersion, Summary, read_summary, version_file
from gdi_operators.results.whole_file import write

LATE = "it had not answered when the answer was made"


def begin(folder: Path, released: Iterable[Mapping[str, Any]]) -> list[AnswerVersion]:
    """The versions before the one that these releases make; the newest of them is put aside."""
    before = read_summary(folder)
    if before is None:
        return []
    parts = {(str(r["node"]), str(r["name"]), str(r["sha256"])) for r in released}
    if parts == {(r.node, r.name, r.sha256) for r in before.releases}:
        return before.earlier
    aside = (folder / version_file(before.answer_version, SUMMARY)).is_file()  # by a try before this one
    for name in () if aside else TITLES:  # releases.json is the last: where it is, all of it is
        file, kept = folder / name, folder / version_file(before.answer_version, name)
        if file.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            write(kept, lambda draft, file=file: shutil.copyfile(file, draft))  # type: ignore[misc]
    return [*before.earlier, _as_version(before)]


def _as_version(summary: Summary) -> AnswerVersion:
    return AnswerVersion(
        version=summary.answer_version,
        made_at=summary.gathered_at,
        attempt=summary.attempt,
        nodes=sorted({release.node for release in summary.releases}),
        missing=summary.missing,
    )


def reasons(run: m.Run, progress: Progress | None, missing: Iterable[str]) -> dict[str, str]:
    """Why each node is not in the answer, in a few words, as the broker last heard."""
    return {node: _reason(node, progress)[:500] for node in missing} if run.plan else {}


def _reason(node: str, progress: Progress | None) -> str:
    if progress is None:
        return LATE
    mine = [order for order in progress.orders if order.node == node and order.kind != "close"]
    ended = [order for order in mine if order.state in ENDED_ORDER and order.state != "succeeded"]
    if ended:
        order = ended[-1]
        text = ": ".join(one for one in (order.reason, order.detail) if one)
        words = {"refused": "it refused", "expired": "it did not answer by the deadline", "cancelled": "it was stopped"}
        begin = words.get(order.state, "it failed")
        return begin if order.state == "expired" or not text else f"{begin}: {text}"
    if any(order.detail.startswith("awaiting-review") for order in mine):
        return "a person of the node has not decided yet"
    if any(order.state not in ENDED_ORDER and not order.cancelling for order in mine):
        return f"{LATE}; its part is added when it comes"
    state = next((one for one in progress.nodes if one.node == node), None)
    if state is not None and state.state in ("failed", "cancelled"):
        return f"it failed{f': {state.message}' if state.message else ''}"
    return LATE


def title_of(title: str, version: int, missing: Iterable[str]) -> str:
    """What stands above the picture."""
    without = ", ".join(missing)
    parts = [title, *([f"version {version}"] if version > 1 else []), *([f"without {without}"] if without else [])]
    return " · ".join(parts)
