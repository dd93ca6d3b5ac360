"""Traces: the traceparent with which a run's attempt was admitted."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("runs", sa.Column("trace", sa.String(55)))
