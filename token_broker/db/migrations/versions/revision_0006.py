"""Access committees: their stops, uses by dataset, and what left in a run."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("runs", sa.Column("released", sa.JSON))
    op.create_index("ix_audit_dataset", "audit", ["dataset"])
    op.create_table(
        "stops",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("committee", sa.String(63), nullable=False),
        sa.Column("run", sa.String(22)),
        sa.Column("person", sa.String(255)),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
        sa.Column("made_at", sa.Float, nullable=False),
        sa.Column("lifted_by", sa.String(255)),
        sa.Column("lifted_at", sa.Float),
    )
    op.create_index("ix_stops_run", "stops", ["run"])
    op.create_index("ix_stops_person", "stops", ["person"])
