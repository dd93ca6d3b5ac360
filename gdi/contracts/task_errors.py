"""Why a task failed, as it is told outside its node: an error class, a line of the input, a dataset and a reason.

A workflow's script says it on the last line of standard error, `GDI-ERROR class=VcfFormatError line=40`; the gateway
passes class and line on, or tells its own denial, in the metadata of the TES task's log (`gdi_error_class`, …).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from gdi.contracts.ids import is_dataset_id, matches

ERROR_CLASS = r"[A-Za-z][A-Za-z0-9]{0,39}"  # 40 letters: what a class may tell of the data is bounded
ErrorClass = Annotated[str, Field(pattern=f"^{ERROR_CLASS}$")]
LINE = r"[0-9]{1,10}"
DenialClass = Literal[
    "AccessDenied",
    "ArchiveError",
    "Busy",
    "InvalidRequest",
    "NotCrypt4GH",
    "NotFound",
    "RunClosed",
    "Truncated",
    "Unavailable",
]
"""What a gateway says when it does not give a task its data."""
LASTING: frozenset[str] = frozenset(
    {"AccessDenied", "InvalidRequest", "NotFound", "NotCrypt4GH", "WrongKey", "MissingInput"}
)
"""Classes of the platform with which another try fails in the same way."""
MAX_REASON = 1000  # characters
_FORM = re.compile(rf"GDI-ERROR class=({ERROR_CLASS})(?: line=({LINE}))?")


@dataclass(frozen=True)
class TaskError:
    """What is known of a failure; each part may be missing. `line` counts from 1; `reason` is fit for a user's eyes."""

    error_class: str | None = None
    line: int | None = None
    dataset: str | None = None
    reason: str = ""

    @classmethod
    def of_line(cls, text: str) -> TaskError | None:
        """What a line of standard error says; None where it is not of the form. White space around it is ignored."""
        found = _FORM.fullmatch(text.strip())
        return cls(found[1], int(found[2]) if found[2] else None) if found else None

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, object]) -> TaskError:
        """What a TES log's metadata says; a part that is not of its form is missing."""

        def text(key: str, pattern: str) -> str | None:
            value = metadata.get(key)
            return value if isinstance(value, str) and matches(pattern, value) else None

        line = text("gdi_line", LINE)
        dataset = metadata.get("gdi_dataset")
        reason = "".join(c if c.isprintable() else " " for c in str(metadata.get("gdi_reason") or ""))
        return cls(
            text("gdi_error_class", ERROR_CLASS),
            int(line) if line else None,
            dataset if isinstance(dataset, str) and is_dataset_id(dataset) else None,
            reason[:MAX_REASON],
        )

    def metadata(self) -> dict[str, str]:
        """The parts that are known, for a TES log's metadata."""
        parts = {
            "gdi_error_class": self.error_class or "",
            "gdi_line": "" if self.line is None else str(self.line),
            "gdi_dataset": self.dataset or "",
            "gdi_reason": self.reason,
        }
        return {key: value for key, value in parts.items() if value}

    def __str__(self) -> str:
        """The line that a script ends its standard error with."""
        return f"GDI-ERROR class={self.error_class}" + ("" if self.line is None else f" line={self.line}")
