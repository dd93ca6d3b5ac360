"""Which reviewers' sessions were ended before their time."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "used_ids",
        sa.Column("kind", sa.String(20), primary_key=True),
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("until", sa.Float, nullable=False),
    )
    op.create_index("ix_used_ids_until", "used_ids", ["until"])
