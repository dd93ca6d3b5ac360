"""A schedule starts one version of its workflow: the one that the user saw, or that of the first start."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("schedules", sa.Column("digest", sa.String(71)))
