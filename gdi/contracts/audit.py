"""The broker's API on its audit: who did what, when, under which visa."""

from __future__ import annotations

from typing import Any

from gdi.contracts.ids import Label, Text
from gdi.kit.models import Strict


class AuditEntry(Strict):
    """Who, what, when, under which visa. `allowed` False is a refusal; `reason` says why."""

    number: int
    time: float
    actor: Label
    action: Label
    run: str | None = None
    grant: str | None = None
    dataset: str | None = None
    node: str | None = None
    allowed: bool
    reason: Text = ""
    visa: dict[str, Any] | None = None


class AuditPage(Strict):
    entries: list[AuditEntry]
