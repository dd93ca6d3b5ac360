"""The portal's tables, in SQLite for one process or PostgreSQL for several. A change of it needs a revision in
gdi/portal/db/migrations.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from gdi.kit import migrations
from gdi.kit.database import Database
from gdi.kit.used_ids import UsedIds
from gdi.portal.db.migrations import first

meta = sa.MetaData()

runs = sa.Table(
    "portal_runs",
    meta,
    sa.Column("id", sa.String(22), primary_key=True),
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("start_key", sa.String(64), unique=True),  # hash of owner and Idempotency-Key
    sa.Column("request_hash", sa.String(64), nullable=False),
    sa.Column("dag_id", sa.String(250), nullable=False),
    sa.Column("dag_run_id", sa.String(250), nullable=False),
    sa.Column("workflow", sa.String(63), nullable=False),
    sa.Column("title", sa.String(200), nullable=False),
    sa.Column("version", sa.String(50), nullable=False),
    sa.Column("digest", sa.String(71), nullable=False),
    sa.Column("datasets", sa.JSON, nullable=False),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("wes", sa.JSON),  # the rest of a WES request, as it was sent
    sa.Column("started_by", sa.String(10), nullable=False),  # api | wes | schedule | airflow
    sa.Column("grant_id", sa.String(40)),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
    sa.Column("stop_requested_at", sa.Float),
    sa.Column("in_airflow", sa.Boolean, nullable=False),
    sa.Column("standing", sa.String(12), nullable=False),
    sa.Column("sentence", sa.Text, nullable=False),
    sa.Column("next_step", sa.Text, nullable=False),
    sa.Column("fault", sa.String(10), nullable=False),
    sa.Column("looked_at", sa.Float, nullable=False),
    sa.Index("portal_runs_of_owner", "owner", "created_at", "id"),
    sa.Index("portal_runs_open", "ended_at", "looked_at"),
)

# Of people at the pages. `sealed`: the tokens, which only the session's own cookie opens.
sessions = sa.Table(
    "portal_sessions",
    meta,
    sa.Column("id", sa.String(64), primary_key=True),  # hash of the cookie's secret
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("sealed", sa.Text, nullable=False),
    sa.Column("busy_until", sa.Float, nullable=False),  # somebody renews the tokens
    sa.Column("ends_at", sa.Float, nullable=False, index=True),
)
used_ids = UsedIds.table(meta)
LISTED = [c for c in runs.c if c.name not in ("parameters", "wes")]  # a list needs no megabyte of parameters

SCHEMA = migrations.Schema("gdi-portal", Path(first.__file__).parent, meta, first.meta)


class PortalDatabase(Database):
    owner = "portal"

    async def create(self) -> migrations.MigrationResult:
        """Makes the schema, or brings it to the newest revision. SchemaError where that cannot be."""
        return await migrations.upgrade(self, SCHEMA)
