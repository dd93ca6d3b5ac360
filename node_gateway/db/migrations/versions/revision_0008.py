"""What a release order asked for, so that an agent that restarts goes on with it."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    with op.batch_alter_table("orders") as table:
        table.add_column(sa.Column("wanted", sa.JSON, nullable=False, server_default="[]"))
