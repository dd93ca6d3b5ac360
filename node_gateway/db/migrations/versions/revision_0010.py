"""The ledger by topic: what may tell about each other is found together, whatever kind of release said it. Statistics
that left say the allele's count as well.
"""

import sqlalchemy as sa
from alembic import op

from gdi.releases.disclosure import vocabulary

revision = "0010"
down_revision = "0009"
BATCH = 1000


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":  # a release under way is in before it is copied, or fails
        op.execute("LOCK TABLE ledger_cells IN ACCESS EXCLUSIVE MODE")
    op.rename_table("ledger_cells", "ledger_cells_before")
    if connection.dialect.name == "postgresql":
        op.execute("ALTER INDEX ledger_cells_pkey RENAME TO ledger_cells_before_pkey")
    new = op.create_table(
        "ledger_cells",
        sa.Column("topic", sa.String(vocabulary.MAX_TOPIC), primary_key=True),
        sa.Column("kind", sa.String(63), primary_key=True),
        sa.Column("key", sa.String(2100), primary_key=True),
        sa.Column("datasets", sa.Integer, sa.ForeignKey("dataset_sets.id"), primary_key=True, autoincrement=False),
        sa.Column("numbers", sa.String(480), primary_key=True),
        sa.Column("release", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    names = "kind", "key", "datasets", "numbers", "release"
    old = sa.table("ledger_cells_before", *(sa.column(name) for name in names))
    result = connection.execute(sa.select(*old.c))
    while rows := result.fetchmany(BATCH):
        values = [one for row in rows for one in _cells(row._mapping)]
        seen = {tuple(one[name] for name in ("topic", *names[:4])): one for one in values}
        connection.execute(new.insert(), list(seen.values()))
    op.drop_table("ledger_cells_before")


def _cells(row: sa.RowMapping) -> list[dict[str, object]]:
    value = {**row, "topic": vocabulary.topic(row["kind"], row["key"])}
    numbers = [int(number) for number in row["numbers"].split(",")]
    if row["kind"] != vocabulary.STATISTICS or len(numbers) != 6:
        return [value]
    people, _, carriers, others, *_ = numbers
    copies = carriers + people - others
    counts = (copies, copies, 2 * people, 2 * people, 0, carriers, others, 0, 0, people)
    allele = {"kind": vocabulary.ALLELES, "key": row["key"].partition("|")[0], "numbers": ",".join(map(str, counts))}
    return [value, {**value, **allele}]
