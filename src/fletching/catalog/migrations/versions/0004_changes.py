"""Tables that change: versions, deletions, tags, key runs.

Of a table that exists only the current version is known, so the horizon begins there. A key that was
declared so far was kept as a note, and its table may hold duplicates: it does not become unique.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Adds the tables and columns."""
    op.add_column(
        "tables", sa.Column("keyed", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column(
        "tables", sa.Column("oldest_version", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.create_table(
        "table_versions",
        sa.Column("table_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("committed_us", sa.BigInteger(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("data_change", sa.Boolean(), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("segments", sa.BigInteger(), nullable=False),
        sa.Column("rows_inserted", sa.BigInteger(), nullable=False),
        sa.Column("rows_updated", sa.BigInteger(), nullable=False),
        sa.Column("rows_deleted", sa.BigInteger(), nullable=False),
        sa.Column("access_id", sa.Text(), nullable=False),
        sa.Column("read_version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["table_id"], ["tables.id"], name=op.f("fk_table_versions_table_id")
        ),
        sa.PrimaryKeyConstraint("table_id", "version", name=op.f("pk_table_versions")),
    )
    op.create_table(
        "tags",
        sa.Column("table_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["table_id"], ["tables.id"], name=op.f("fk_tags_table_id")),
        sa.PrimaryKeyConstraint("table_id", "name", name=op.f("pk_tags")),
    )
    op.create_table(
        "change_keys",
        sa.Column("table_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("report", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["table_id"], ["tables.id"], name=op.f("fk_change_keys_table_id")),
        sa.PrimaryKeyConstraint("table_id", "key", name=op.f("pk_change_keys")),
    )
    op.create_table(
        "deletions",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("table_id", sa.Text(), nullable=False),
        sa.Column("segment_id", _ID, nullable=False),
        sa.Column("segment_key", sa.Text(), nullable=False),
        sa.Column("added_version", sa.BigInteger(), nullable=False),
        sa.Column("removed_version", sa.BigInteger(), nullable=True),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("batch_counts", sa.LargeBinary(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("crc32c", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["table_id"], ["tables.id"], name=op.f("fk_deletions_table_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deletions")),
    )
    op.create_index("ix_deletions_segment_id", "deletions", ["segment_id"], unique=False)
    op.create_index(
        "ix_deletions_table_id_added_version",
        "deletions",
        ["table_id", "added_version"],
        unique=False,
    )
    _removed_index("deletions")
    op.drop_index("ix_segments_removed", "segments")
    with op.batch_alter_table("segments") as batch:
        batch.drop_constraint("uq_segments_key", type_="unique")
        batch.create_unique_constraint(
            op.f("uq_segments_key_added_version"), ["key", "added_version"]
        )
        batch.drop_column("removed_at")
        for name in (
            "key_run_offset",
            "key_run_length",
            "replaced_by",
            "replaced_base",
            "replaced_version",
        ):
            batch.add_column(sa.Column(name, sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_segments_table_id_added_version",
        "segments",
        ["table_id", "added_version"],
        unique=False,
    )
    _removed_index("segments")
    for column in (
        sa.Column("key_run_offset", sa.BigInteger(), nullable=True),
        sa.Column("key_run_length", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False, server_default=""),
        sa.Column("superseded", sa.LargeBinary(), nullable=True),
    ):
        op.add_column("staged_segments", column)
    op.add_column("read_sessions", sa.Column("since_version", sa.BigInteger(), nullable=True))
    op.execute("UPDATE tables SET oldest_version = version")
    op.execute(
        "INSERT INTO table_versions (table_id, version, committed_us, operation, data_change,"
        " schema_version, rows, bytes, segments, rows_inserted, rows_updated, rows_deleted,"
        " access_id, read_version)"
        " SELECT id, version, CAST(modified_at * 1000000 AS BIGINT), 'upgrade', CAST(0 = 1 AS BOOLEAN),"
        " schema_version, rows, bytes, segments, 0, 0, 0, '', version FROM tables"
    )


def _removed_index(table: str) -> None:
    op.create_index(
        f"ix_{table}_removed",
        table,
        ["table_id", "removed_version"],
        unique=False,
        sqlite_where=sa.text("removed_version IS NOT NULL"),
        postgresql_where=sa.text("removed_version IS NOT NULL"),
    )
