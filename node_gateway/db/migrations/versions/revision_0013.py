"""Keys of the ledger by their one name: rows of before keys were normalised (`chr2`, untrimmed) are found again.
Where two rows become one variant's, both stay: either answers. Columns beside the ledger (Parquet) came later.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql, sqlite

from gdi.releases.disclosure import variants, vocabulary

revision = "0013"
down_revision = "0012"
BATCH = 1000
SPOKEN = vocabulary.ALLELES, vocabulary.STATISTICS


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":  # a release under way is in before it is looked at, or fails
        op.execute("LOCK TABLE ledger_cells IN ACCESS EXCLUSIVE MODE")
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    names = "topic", "kind", "key", "datasets", "numbers", "release"
    table = sa.table("ledger_cells", *(sa.column(name) for name in names))
    last: tuple[object, ...] = ("", "", "", 0, "")  # page by page: the table is written meanwhile
    order = [table.c[name] for name in names[:5]]
    while True:
        page = (
            sa.select(*table.c)
            .where(sa.tuple_(*order) > sa.tuple_(*map(sa.literal, last)))
            .order_by(*order)
            .limit(BATCH)
        )
        rows = connection.execute(page).mappings().all()
        if not rows:
            return
        last = tuple(rows[-1][name] for name in names[:5])
        for row in rows:
            key = _normal(row["kind"], row["key"])
            if key != row["key"]:
                value = {**row, "key": key, "topic": vocabulary.topic(row["kind"], key)}
                connection.execute(insert(table).values(**value).on_conflict_do_nothing())
                connection.execute(table.delete().where(*(table.c[name] == row[name] for name in names[:5])))


def _normal(kind: str, key: str) -> str:
    """The same of an allele's, or of a statistic's of one; others as they are."""
    if vocabulary.words(kind, key) not in SPOKEN:
        return key
    allele, bar, rest = key.partition("|")
    place, symbol, symbolic = allele.partition(":<")
    parts = place.rsplit(":", 2 if symbol else 3)
    alt = symbol[1:] + symbolic if symbol else parts.pop()
    if len(parts) != 3 or not parts[1].isascii() or not parts[1].isdigit():
        return key
    return variants.key(variants.Variant(parts[0], int(parts[1]), parts[2], alt)) + bar + rest
