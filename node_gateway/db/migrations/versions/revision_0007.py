"""Orders that the node's own agent took."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "orders",
        sa.Column("run", sa.String(40), primary_key=True),
        sa.Column("kind", sa.String(10), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("nonce", sa.String(32), nullable=False, unique=True),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("broker_generation", sa.Integer, nullable=False),
        sa.Column("user", sa.String(255), nullable=False),
        sa.Column("workflow", sa.String(63), nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("datasets", sa.JSON, nullable=False),
        sa.Column("parameters", sa.JSON, nullable=False),
        sa.Column("deadline", sa.Float, nullable=False),
        sa.Column("access_ends_at", sa.Float, nullable=False),
        sa.Column("approved", sa.Boolean, nullable=False),
        sa.Column("rules", sa.JSON, nullable=False),
        sa.Column("pod", sa.String(63)),
        sa.Column("pod_uid", sa.String(100)),
        sa.Column("pod_generation", sa.Integer, nullable=False),
        sa.Column("cancelling", sa.Text, nullable=False),
        sa.Column("reason", sa.String(255), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("dataset", sa.String(128)),
        sa.Column("released", sa.JSON, nullable=False),
        sa.Column("reported", sa.Boolean, nullable=False),
    )
