"""Which content the files of a dataset had when they were read, by epoch."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "file_contents",
        sa.Column("dataset", sa.String(128), primary_key=True),
        sa.Column("path", sa.String(64), primary_key=True),
        sa.Column("content", sa.String(64), primary_key=True),
        sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
    )
