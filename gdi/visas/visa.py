"""A visa that was accepted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Visa:
    """A visa whose signature, issuer, subject and times hold. `ends_at`: the earlier of `exp` and `asserted` + the
    maximum age.
    """

    iss: str
    type: str
    value: str
    source: str
    by: str | None
    asserted: float
    ends_at: float
    conditions: Any
    token: str = field(default="", repr=False)  # as it was signed
    link: str = field(default="", repr=False)  # the LinkedIdentities visa by which it is this person's
    jku: str = ""
    sub: str = ""  # whose it is: another identity of the person's where there is a `link`

    def summary(self) -> dict[str, Any]:
        """What the audit keeps of it."""
        whose = {"sub": self.sub} if self.link else {}
        return {
            **whose,
            "iss": self.iss,
            "type": self.type,
            "value": self.value,
            "source": self.source,
            "by": self.by,
            "asserted": self.asserted,
            "ends_at": self.ends_at,
        }
