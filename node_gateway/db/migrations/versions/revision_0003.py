"""How large each task was as it was sent, so that a run's tasks are bounded in bytes together."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("tasks", sa.Column("bytes", sa.Integer, nullable=False, server_default="0"))
