"""The ledger by kind of release: what left is named by the kind's own key, no longer by a variant's columns. A gateway
of revision 0001 that still runs on PostgreSQL can release nothing from here on: with two ledgers, each would let leave
what the other forbids.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":  # a release under way is in before it is copied, or fails
        op.execute("LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE")
    op.create_table(
        "ledger_cells",
        sa.Column("kind", sa.String(63), primary_key=True),
        sa.Column("key", sa.String(2100), primary_key=True),
        sa.Column("datasets", sa.Integer, sa.ForeignKey("dataset_sets.id"), primary_key=True, autoincrement=False),
        sa.Column("numbers", sa.String(480), primary_key=True),
        sa.Column("release", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO ledger_cells (kind, key, datasets, numbers, release)"
        " SELECT 'allele-counts', chrom || ':' || CAST(pos AS VARCHAR) || ':' || ref || ':' || alt, datasets, numbers,"
        " release FROM ledger"
    )
    op.drop_table("ledger")
