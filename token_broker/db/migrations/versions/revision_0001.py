"""The tables as they were when revisions got numbers."""

from alembic import op

from token_broker.db.migrations import first

revision = "0001"
down_revision = None


def upgrade() -> None:
    first.meta.create_all(op.get_bind())
