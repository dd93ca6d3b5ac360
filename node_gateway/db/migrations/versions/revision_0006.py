"""Splits, variable sets and tables of epochs; who stays out; budgets of `sensitive` people; retracted releases."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("epochs", sa.Column("named", sa.JSON))
    op.create_table(
        "epoch_parts",
        sa.Column("dataset", sa.String(128), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("part", sa.String(200), primary_key=True),
        sa.Column("person", sa.String(64), primary_key=True),
    )
    op.create_table(
        "epoch_outside",
        sa.Column("dataset", sa.String(128), primary_key=True),
        sa.Column("person", sa.String(64), primary_key=True),
    )
    op.create_table(
        "budget_uses",
        sa.Column("release", sa.Integer, sa.ForeignKey("releases.number"), primary_key=True, autoincrement=False),
        sa.Column("cohort", sa.Integer, sa.ForeignKey("dataset_sets.id"), nullable=False),
        sa.Column("statistics", sa.Integer, nullable=False),
        sa.Column("people", sa.Integer, nullable=False),
    )
    op.create_index("ix_budget_uses_cohort", "budget_uses", ["cohort"])
    op.create_table(
        "retractions",
        sa.Column("release", sa.Integer, sa.ForeignKey("releases.number"), primary_key=True, autoincrement=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("time", sa.Float, nullable=False),
    )
