"""Revision 0001 of the gateway's schema, as it was: never changed again. The newest is in node_gateway/db/store.py."""

import sqlalchemy as sa

LATER = ("reviews", "emptied")  # what older databases without a number may lack, in this order

metadata = sa.MetaData()

sa.Table(
    "fences",
    metadata,
    sa.Column("run", sa.String(40), primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("closed_attempt", sa.Integer, nullable=False),
)

sa.Table(
    "emptied",
    metadata,
    sa.Column("run", sa.String(40), primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
)

sa.Table(
    "tasks",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("run", sa.String(40), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("user", sa.String(255), nullable=False),
    sa.Column("job", sa.String(100), nullable=False),
    sa.Column("try", sa.String(20), nullable=False),
    sa.Column("intent", sa.String(40), nullable=False, unique=True),
    sa.Column("phase", sa.String(10), nullable=False),
    sa.Column("tes_id", sa.String(200), unique=True),
    sa.Column("ended", sa.String(20)),
    sa.Column("capability", sa.String(64), unique=True),
    sa.Column("key_fingerprint", sa.String(64), nullable=False),
    sa.Column("inputs", sa.JSON, nullable=False),
    sa.Column("outputs", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Index("tasks_job", "run", "job", "try"),
)

sa.Table(
    "denials",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("task", sa.Integer, sa.ForeignKey("tasks.number"), nullable=False, index=True),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("error_class", sa.String(60), nullable=False),
    sa.Column("dataset", sa.String(128), nullable=False),
    sa.Column("reason", sa.String(600), nullable=False),
)

sa.Table(
    "releases",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("run", sa.String(40), nullable=False),
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("source_sha256", sa.String(64), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("key", sa.String(1024), nullable=False),
    sa.Column("answer", sa.JSON, nullable=False),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("reviewer", sa.String(255)),
    sa.UniqueConstraint("run", "name", "source_sha256"),
)

sa.Table(
    "reviews",
    metadata,
    sa.Column("release", sa.Integer, sa.ForeignKey("releases.number"), primary_key=True, autoincrement=False),
    sa.Column("asked", sa.JSON, nullable=False),
    sa.Column("decided_at", sa.Float),
    sa.Column("reason", sa.String(500), nullable=False),
)

sa.Table(
    "dataset_sets",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("names", sa.Text, nullable=False, unique=True),
)

sa.Table(
    "ledger",
    metadata,
    sa.Column("datasets", sa.Integer, sa.ForeignKey("dataset_sets.id"), primary_key=True, autoincrement=False),
    sa.Column("chrom", sa.String(32), primary_key=True),
    sa.Column("pos", sa.BigInteger, primary_key=True),
    sa.Column("ref", sa.String(1000), primary_key=True),
    sa.Column("alt", sa.String(1000), primary_key=True),
    sa.Column("numbers", sa.String(200), primary_key=True),
    sa.Column("release", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)

sa.Table(
    "audit",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("line", sa.Text, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)
