"""Late nodes: orders that outlive the close of their run."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("orders", sa.Column("late_until", sa.Float, nullable=False, server_default="0"))
    op.create_index("orders_late", "orders", ["late_until"])
