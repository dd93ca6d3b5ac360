"""Ids that are good once (gateways' assertions) or have ended (sessions of `/connect`), and how many bytes of events
each run has.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "used_ids",
        sa.Column("kind", sa.String(20), primary_key=True),
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("until", sa.Float, nullable=False),
    )
    op.create_index("ix_used_ids_until", "used_ids", ["until"])
    op.add_column("runs", sa.Column("event_bytes", sa.BigInteger, nullable=False, server_default="0"))
