"""The table of runs."""

from alembic import op

from gdi.portal.db.migrations import first

revision = "0001"
down_revision = None


def upgrade() -> None:
    first.meta.create_all(op.get_bind())
