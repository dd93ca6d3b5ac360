"""What was in `job_details` is in `jobs`. On PostgreSQL a view of that name serves brokers of revision 0001 that run
until they are replaced, or again after a rollback: they read and write the same rows.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

KEY = ("run_id", "attempt", "node", "job")
COLUMNS: dict[str, sa.types.TypeEngine[Any]] = {
    "wildcards": sa.Text(),
    "task": sa.String(255),
    "tries": sa.Integer(),
    "cpu_seconds": sa.Float(),
    "memory_bytes": sa.BigInteger(),
    "submitted_at": sa.Float(),
    "message": sa.Text(),
    "error_class": sa.String(61),
    "exit_code": sa.Integer(),
    "line": sa.Integer(),
    "dataset": sa.String(128),
}
MOVED = ("number", *COLUMNS)


def upgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    if postgresql:  # both at once, so that no request holds one and waits for the other
        op.execute("LOCK TABLE job_details, jobs IN ACCESS EXCLUSIVE MODE")
    # A broker of revision 0001 makes a job's row without a number, then adds it.
    op.add_column("jobs", sa.Column("number", sa.Integer(), nullable=False, server_default="0"))
    for name, kind in COLUMNS.items():
        op.add_column("jobs", sa.Column(name, kind))
    jobs, details = (sa.table(name, *map(sa.column, (*KEY, *MOVED))) for name in ("jobs", "job_details"))
    same = sa.and_(*(jobs.c[name] == details.c[name] for name in KEY))
    op.execute(sa.update(jobs).where(same).values({name: details.c[name] for name in MOVED}))
    op.create_index("jobs_news", "jobs", ["run_id", "attempt", "number"])
    op.drop_table("job_details")
    if postgresql:
        seen = ", ".join((*KEY, *MOVED, "rule", "state"))
        op.execute(f"CREATE VIEW job_details AS SELECT {seen} FROM jobs")  # noqa: S608  # names of this file
        for name in ("rule", "state"):  # a row is whole before it is merged with the one that is there
            op.execute(f"ALTER VIEW job_details ALTER COLUMN {name} SET DEFAULT ''")
