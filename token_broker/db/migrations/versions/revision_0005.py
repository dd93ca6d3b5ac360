"""Orders for nodes, what is heard of nodes, the files of workflows, and preflights."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("runs", sa.Column("needed", sa.JSON))
    op.create_table(
        "nodes",
        sa.Column("node", sa.String(31), primary_key=True),
        sa.Column("news", sa.Integer, nullable=False),
        sa.Column("seen_at", sa.Float),
        sa.Column("status", sa.JSON),
    )
    op.create_table(
        "orders",
        sa.Column("run_id", sa.String(22), primary_key=True),
        sa.Column("node", sa.String(31), primary_key=True),
        sa.Column("kind", sa.String(10), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("body", sa.String(64), nullable=False),
        sa.Column("nonce", sa.String(32), nullable=False),
        sa.Column("deadline", sa.Float, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("lease_until", sa.Float, nullable=False),
        sa.Column("cancelling", sa.Text, nullable=False),
        sa.Column("reason", sa.String(255), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("names", sa.JSON, nullable=False),
        sa.Column("released", sa.JSON, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("news", sa.Integer, nullable=False),
        sa.Column("changes", sa.Integer, nullable=False),
        sa.Column("changed_at", sa.Float, nullable=False),
    )
    op.create_index("orders_news", "orders", ["node", "news"])
    op.create_index("orders_deadline", "orders", ["state", "deadline"])
    op.create_table(
        "workflows",
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("approvals", sa.JSON, nullable=False),
        sa.Column("used_at", sa.Float, nullable=False),
    )
    op.create_index("ix_workflows_name", "workflows", ["name"])
    op.create_index("ix_workflows_used_at", "workflows", ["used_at"])
    op.create_table(
        "preflights",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("node", sa.String(31), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("asked_at", sa.Float, nullable=False),
        sa.Column("news", sa.Integer, nullable=False),
        sa.Column("reply", sa.JSON),
    )
    op.create_index("ix_preflights_asked_at", "preflights", ["asked_at"])
