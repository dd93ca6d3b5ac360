"""REMS's applications: catalogue items, a draft, its answers, submission, the handler's word. What a handler approves
becomes an entitlement, what one rejects or revokes does not.

Paths, bodies and answers are those of CSCfi/rems (`api/catalogue.clj`, `api/catalogue_items.clj`,
`api/applications.clj`, `application/commands.clj`): a command that is not allowed answers 200 with `success: false`.
One form with one question stands for all.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gdi.local_federation.aai.config import CatalogueItem, Entitlement
from gdi.local_federation.aai.rems import Rems

State = Literal["draft", "submitted", "approved", "rejected", "revoked", "closed"]
# command: the states from which it leads, and the state to which
HANDLING: dict[str, tuple[tuple[State, ...], State]] = {
    "approve": (("submitted",), "approved"),
    "reject": (("submitted",), "rejected"),
    "revoke": (("approved",), "revoked"),
    "close": (("submitted", "approved"), "closed"),
}
FORM, FIELD = 1, "purpose"
MAX_APPLICATIONS, MAX_TEXT = 100_000, 5000
START = "2026-01-01T00:00:00.000Z"


class RemsBody(BaseModel):
    """A command's body. REMS's own names; what this stand-in does not use is left unread."""

    model_config = ConfigDict(extra="ignore")


class CreateBody(RemsBody):
    items: list[int] = Field(alias="catalogue-item-ids", min_length=1, max_length=50)


class FieldValue(RemsBody):
    form: int
    field: str = Field(max_length=100)
    value: str = Field(max_length=MAX_TEXT)


class CommandBody(RemsBody):
    """Of `submit`, `reject`, `revoke`, `close`, and with the fields of `save-draft` and `approve`."""

    application: int = Field(alias="application-id")
    comment: str = Field(default="", max_length=MAX_TEXT)
    answers: list[FieldValue] = Field(default_factory=list, alias="field-values", max_length=50)
    end: datetime | None = Field(default=None, alias="entitlement-end")


class RefusedCommand(Exception):
    """REMS's error types for `errors`."""

    def __init__(self, kind: str, **more: Any) -> None:
        super().__init__(kind)
        self.error = {"type": kind, **more}


@dataclass
class Applications:
    """Kept in the stand-in's database. `handlers` of the configuration decide on each; `owner` may read all."""

    rems: Rems

    @property
    def items(self) -> list[CatalogueItem]:
        return self.rems.config.catalogue

    def item(self, number: int) -> CatalogueItem | None:
        return self.items[number - 1] if 1 <= number <= len(self.items) else None

    def numbers(self, resource: str | None = None) -> list[int]:
        """Catalogue item ids, of one resource or of all."""
        return [n for n, item in enumerate(self.items, 1) if resource in (None, item.dataset)]

    def shown_item(self, number: int) -> dict[str, Any]:
        """A `CatalogueItem` of REMS's schema."""
        item = self.items[number - 1]
        return {
            "id": number,
            "wfid": 1,
            "formid": FORM,
            "resid": item.dataset,
            "resource-id": number,
            "organization": {"organization/id": "dac"},
            "start": START,
            "end": None,
            "enabled": True,
            "archived": False,
            "expired": False,
            "localizations": {
                "en": {"id": number, "langcode": "en", "title": item.title or item.dataset, "infourl": None}
            },
        }

    def handles(self, user: str) -> bool:
        return user in {self.rems.config.sub_of(h) for h in self.rems.config.handlers}

    def create(self, user: str, items: list[int]) -> int:
        for number in items:
            if self.item(number) is None:
                raise RefusedCommand("invalid-catalogue-item", **{"catalogue-item-id": number})
        db = self.rems.store.db
        if db.execute("SELECT count(*) FROM applications").fetchone()[0] >= MAX_APPLICATIONS:
            raise RefusedCommand("too-many-applications")
        body = json.dumps({"items": sorted(set(items)), "answers": {}})
        now = int(time.time())
        made = db.execute(
            "INSERT INTO applications (sub, state, body, created, modified) VALUES (?,?,?,?,?)",
            (user, "draft", body, now, now),
        )
        return int(made.lastrowid or 0)

    def command(self, name: str, user: str, body: CommandBody) -> None:
        """One of `save-draft`, `submit` (by the applicant) and HANDLING (by a handler). RefusedCommand otherwise."""
        with self.rems.store.transaction() as db:
            row = db.execute("SELECT * FROM applications WHERE id=?", (body.application,)).fetchone()
            if row is None:
                raise RefusedCommand("application-not-found")
            kept, state = json.loads(row["body"]), row["state"]
            if name in ("save-draft", "submit"):
                if user != row["sub"] or state != "draft":
                    raise RefusedCommand("forbidden")
                if name == "save-draft":
                    kept["answers"] = {a.field: a.value for a in body.answers if a.form == FORM}
                elif not kept["answers"].get(FIELD, "").strip():
                    raise RefusedCommand("t.form.validation/required", **{"form-id": FORM, "field-id": FIELD})
                after = "submitted" if name == "submit" else "draft"
            else:
                before, after = HANDLING[name]
                if not self.handles(user) or state not in before:
                    raise RefusedCommand("forbidden")
                self._entitle(row["sub"], kept["items"], after, body.end)
            db.execute(
                "UPDATE applications SET state=?, body=?, modified=? WHERE id=?",
                (after, json.dumps(kept), int(time.time()), row["id"]),
            )

    def _entitle(self, user: str, items: list[int], after: State, end: datetime | None) -> None:
        for dataset in (self.items[n - 1].dataset for n in items):
            if after == "approved":
                lasts = None if end is None else int(end.timestamp() - time.time())
                self.rems.grant(Entitlement(user=user, dataset=dataset, expires_in=lasts))
            elif after in ("revoked", "closed"):
                self.rems.withdraw(user, dataset)

    def listing(self, user: str, *, own: bool = False) -> list[dict[str, Any]]:
        """What the user may see: their own; a handler, and `owner`, all that were submitted."""
        every = not own and (user == "owner" or self.handles(user))
        rows = self.rems.store.db.execute("SELECT * FROM applications ORDER BY id DESC").fetchall()
        return [self._shown(r) for r in rows if r["sub"] == user or (every and r["state"] != "draft")]

    def get(self, user: str, number: int) -> dict[str, Any] | None:
        """None where there is none, or it is not theirs to see."""
        return next((a for a in self.listing(user) if a["application/id"] == number), None)

    def _shown(self, row: Any) -> dict[str, Any]:
        """An application of REMS's schema, without what nobody here reads."""
        kept = json.loads(row["body"])
        return {
            "application/id": row["id"],
            "application/external-id": f"2026/{row['id']}",
            "application/state": f"application.state/{row['state']}",
            "application/todo": "new-application" if row["state"] == "submitted" else None,
            "application/created": _time(row["created"]),
            "application/modified": _time(row["modified"]),
            "application/last-activity": _time(row["modified"]),
            "application/applicant": self._person(row["sub"]),
            "application/members": [],
            "application/invited-members": [],
            "application/resources": [
                {
                    "catalogue-item/id": n,
                    "resource/id": n,
                    "resource/ext-id": self.items[n - 1].dataset,
                    "catalogue-item/title": {"en": self.items[n - 1].title or self.items[n - 1].dataset},
                }
                for n in kept["items"]
            ],
            "application/forms": [
                {
                    "form/id": FORM,
                    "form/fields": [{"field/id": FIELD, "field/value": kept["answers"].get(FIELD, "")}],
                }
            ],
        }

    def _person(self, sub: str) -> dict[str, Any]:
        user = next((u for u in self.rems.config.users if u.sub == sub), None)
        return {"userid": sub, "name": (user.full_name or user.name) if user else None, "email": None}


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
