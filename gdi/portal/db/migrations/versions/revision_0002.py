"""The sessions of people at the pages, and those that were ended before their time."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "portal_sessions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.Column("busy_until", sa.Float, nullable=False),
        sa.Column("ends_at", sa.Float, nullable=False),
    )
    op.create_index("ix_portal_sessions_ends_at", "portal_sessions", ["ends_at"])
    op.create_table(
        "used_ids",
        sa.Column("kind", sa.String(20), primary_key=True),
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("until", sa.Float, nullable=False),
    )
    op.create_index("ix_used_ids_until", "used_ids", ["until"])
