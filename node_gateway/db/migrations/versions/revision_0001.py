"""The tables as they were when revisions got numbers."""

from alembic import op

from node_gateway.db.migrations import first

revision = "0001"
down_revision = None


def upgrade() -> None:
    first.metadata.create_all(op.get_bind())
