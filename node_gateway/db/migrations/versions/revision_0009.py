"""Stops by the node's access committee."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "stops",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("run", sa.String(40)),
        sa.Column("person", sa.String(255)),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
        sa.Column("made_at", sa.Float, nullable=False),
        sa.Column("lifted_by", sa.String(255)),
        sa.Column("lifted_at", sa.Float),
    )
