"""Notices: who wants to be told of what, and what is to be told."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "notice_choices",
        sa.Column("owner", sa.String(255), primary_key=True),
        sa.Column("kinds", sa.JSON, nullable=False),
        sa.Column("address", sa.String(320), nullable=False),
        sa.Column("webhook", sa.String(500), nullable=False),
        sa.Column("problem", sa.String(500), nullable=False),
        sa.Column("changed_at", sa.Float, nullable=False),
    )
    op.create_table(
        "notices",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(30), nullable=False),
        sa.Column("subject", sa.String(40), nullable=False),
        sa.Column("workflow", sa.String(63), nullable=False),
        sa.Column("way", sa.String(10), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("made_at", sa.Float, nullable=False),
        sa.Column("next_at", sa.Float, nullable=False),
    )
    op.create_index("ix_notices_owner", "notices", ["owner"])
    op.create_index("notices_next", "notices", ["state", "next_at"])
