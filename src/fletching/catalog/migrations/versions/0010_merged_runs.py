"""Let the key runs of many segments be one object."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Adds a table."""
    op.create_table(
        "merged_runs",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column(
            "table_id",
            sa.Text(),
            sa.ForeignKey("tables.id", name=op.f("fk_merged_runs_table_id")),
            nullable=False,
        ),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("owners", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_merged_runs")),
        sa.UniqueConstraint("key", name=op.f("uq_merged_runs_key")),
    )
    op.create_index("ix_merged_runs_table_id_partition", "merged_runs", ["table_id", "partition"])
