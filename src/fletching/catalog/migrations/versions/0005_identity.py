"""Let catalog and objects know each other, fence leases, sort partitions, index what is asked for."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BATCH = 1000


def upgrade() -> None:
    """Adds tables, columns and indexes; fills in the order of the partitions that there are."""
    op.create_table(
        "store_identity",
        sa.Column("pk", sa.Integer(), nullable=False),
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("key_fingerprint", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_store_identity")),
    )
    op.create_table(
        "writers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_writers")),
    )
    op.create_table(
        "orphans",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_orphans")),
    )
    op.add_column(
        "leases", sa.Column("number", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.add_column(
        "partitions", sa.Column("sort_key", sa.LargeBinary(), nullable=False, server_default="")
    )
    _fill_sort_keys()
    op.create_index(
        "ix_partitions_table_id_sort_key", "partitions", ["table_id", "sort_key"], unique=True
    )
    op.create_index(
        "ix_segments_table_id_partition", "segments", ["table_id", "partition", "position"]
    )
    for name, table, columns in (
        ("ix_write_sessions_ended_at", "write_sessions", ["ended_at"]),
        ("ix_tables_dropped_at", "tables", ["dropped_at"]),
    ):
        there = sa.text(f"{columns[-1]} IS NOT NULL")
        op.create_index(name, table, columns, sqlite_where=there, postgresql_where=there)
    op.create_index("ix_accepted_writes_created_at", "accepted_writes", ["created_at"])


def _fill_sort_keys() -> None:
    partitions = sa.table(
        "partitions",
        sa.column("table_id", sa.Text),
        sa.column("partition", sa.Text),
        sa.column("sort_key", sa.LargeBinary),
    )
    connection = op.get_bind()
    rows = connection.execute(sa.select(partitions.c.table_id, partitions.c.partition)).all()
    statement = (
        sa.update(partitions)
        .where(
            partitions.c.table_id == sa.bindparam("of_table"),
            partitions.c.partition == sa.bindparam("of_partition"),
        )
        .values(sort_key=sa.bindparam("new_key"))
    )
    for start in range(0, len(rows), _BATCH):
        connection.execute(
            statement,
            [
                {
                    "of_table": row.table_id,
                    "of_partition": row.partition,
                    "new_key": "\0".join(json.loads(row.partition)).encode(),
                }
                for row in rows[start : start + _BATCH]
            ],
        )
