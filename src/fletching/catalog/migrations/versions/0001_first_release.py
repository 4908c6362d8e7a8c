"""The catalog of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite counts rows by itself only in columns declared INTEGER; those hold 64 bits there.
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Creates every table."""
    op.create_table(
        "access_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("security_token", sa.LargeBinary(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_keys")),
    )
    op.create_table(
        "grants",
        sa.Column("pk", _ID, autoincrement=True, nullable=False),
        sa.Column("grantee", sa.Text(), nullable=False),
        sa.Column("project_pattern", sa.Text(), nullable=False),
        sa.Column("table_pattern", sa.Text(), nullable=False),
        sa.Column("permission", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_grants")),
        sa.UniqueConstraint(
            "grantee",
            "project_pattern",
            "table_pattern",
            "permission",
            name=op.f("uq_grants_grantee_project_pattern_table_pattern_permission"),
        ),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "projects",
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name_key", name=op.f("pk_projects")),
    )
    op.create_table(
        "tables",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_key", sa.Text(), nullable=False),
        sa.Column("schema_key", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("schema", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("partition_columns", sa.Text(), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("arrow_schema", sa.LargeBinary(), nullable=False),
        sa.Column("column_ids", sa.Text(), nullable=False),
        sa.Column("next_column_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("segments", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("properties", sa.Text(), nullable=False),
        sa.Column("primary_key", sa.Text(), nullable=False),
        sa.Column("lifecycle_days", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("modified_at", sa.Float(), nullable=False),
        sa.Column("dropped_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tables")),
    )
    op.create_index(
        "uq_tables_live_name",
        "tables",
        ["project_key", "schema_key", "name_key"],
        unique=True,
        sqlite_where=sa.text("dropped_at IS NULL"),
        postgresql_where=sa.text("dropped_at IS NULL"),
    )
    op.create_table(
        "blob_packs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("table_id", sa.Text(), nullable=False),
        sa.Column("session_pk", _ID, nullable=False),
        sa.Column("blobs", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("crc32c", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["table_id"], ["tables.id"], name=op.f("fk_blob_packs_table_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blob_packs")),
        sa.UniqueConstraint("key", name=op.f("uq_blob_packs_key")),
    )
    op.create_index("ix_blob_packs_created_at", "blob_packs", ["created_at"], unique=False)
    op.create_index("ix_blob_packs_table_id", "blob_packs", ["table_id"], unique=False)
    op.create_table(
        "segment_packs",
        sa.Column("segment_key", sa.Text(), nullable=False),
        sa.Column("pack_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["pack_id"], ["blob_packs.id"], name=op.f("fk_segment_packs_pack_id")
        ),
        sa.PrimaryKeyConstraint("segment_key", "pack_id", name=op.f("pk_segment_packs")),
    )
    op.create_index("ix_segment_packs_pack_id", "segment_packs", ["pack_id"], unique=False)
    op.create_table(
        "partitions",
        sa.Column("table_id", sa.Text(), nullable=False),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("modified_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["table_id"], ["tables.id"], name=op.f("fk_partitions_table_id")),
        sa.PrimaryKeyConstraint("table_id", "partition", name=op.f("pk_partitions")),
    )
    op.create_table(
        "read_sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("table_id", sa.Text(), nullable=False),
        sa.Column("table_version", sa.BigInteger(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("plan", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["table_id"], ["tables.id"], name=op.f("fk_read_sessions_table_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_read_sessions")),
    )
    op.create_index("ix_read_sessions_expires_at", "read_sessions", ["expires_at"], unique=False)
    op.create_index(
        "ix_read_sessions_table_id_table_version",
        "read_sessions",
        ["table_id", "table_version"],
        unique=False,
    )
    op.create_table(
        "schemas",
        sa.Column("project_key", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_key"], ["projects.name_key"], name=op.f("fk_schemas_project_key")
        ),
        sa.PrimaryKeyConstraint("project_key", "name_key", name=op.f("pk_schemas")),
    )
    op.create_table(
        "segments",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("table_id", sa.Text(), nullable=False),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("crc32c", sa.BigInteger(), nullable=False),
        sa.Column("batch_index", sa.LargeBinary(), nullable=False),
        sa.Column("dictionary_index", sa.LargeBinary(), nullable=False),
        sa.Column("codecs", sa.Text(), nullable=False),
        sa.Column("statistics", sa.LargeBinary(), nullable=True),
        sa.Column("added_version", sa.BigInteger(), nullable=False),
        sa.Column("removed_version", sa.BigInteger(), nullable=True),
        sa.Column("removed_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["table_id"], ["tables.id"], name=op.f("fk_segments_table_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_segments")),
        sa.UniqueConstraint("key", name=op.f("uq_segments_key")),
    )
    op.create_index(
        "ix_segments_removed",
        "segments",
        ["removed_at"],
        unique=False,
        sqlite_where=sa.text("removed_at IS NOT NULL"),
        postgresql_where=sa.text("removed_at IS NOT NULL"),
    )
    op.create_index(
        "ix_segments_table_id_position", "segments", ["table_id", "position"], unique=False
    )
    op.create_table(
        "table_schemas",
        sa.Column("table_id", sa.Text(), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("arrow_schema", sa.LargeBinary(), nullable=False),
        sa.Column("column_ids", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["table_id"], ["tables.id"], name=op.f("fk_table_schemas_table_id")
        ),
        sa.PrimaryKeyConstraint("table_id", "schema_version", name=op.f("pk_table_schemas")),
    )
    op.create_table(
        "write_sessions",
        sa.Column("pk", _ID, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("table_id", sa.Text(), nullable=False),
        sa.Column("write_mode", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("partition_spec", sa.Text(), nullable=False),
        sa.Column("overwrite", sa.Boolean(), nullable=False),
        sa.Column("enhance_write_check", sa.Boolean(), nullable=False),
        sa.Column("flags", sa.Text(), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("committed_version", sa.BigInteger(), nullable=True),
        sa.Column("commit_request", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["table_id"], ["tables.id"], name=op.f("fk_write_sessions_table_id")
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_write_sessions")),
        sa.UniqueConstraint(
            "table_id", "write_mode", "id", name=op.f("uq_write_sessions_table_id_write_mode_id")
        ),
    )
    op.create_index("ix_write_sessions_expires_at", "write_sessions", ["expires_at"], unique=False)
    op.create_index("ix_write_sessions_id", "write_sessions", ["id"], unique=False)
    op.create_table(
        "write_streams",
        sa.Column("pk", _ID, autoincrement=True, nullable=False),
        sa.Column("session_pk", _ID, nullable=False),
        sa.Column("stream_id", sa.Text(), nullable=False),
        sa.Column("stream_version", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("exactly_once", sa.Boolean(), nullable=False),
        sa.Column("token_digest", sa.LargeBinary(), nullable=True),
        sa.Column("row_offset", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("writes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("modified_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_pk"], ["write_sessions.pk"], name=op.f("fk_write_streams_session_pk")
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_write_streams")),
        sa.UniqueConstraint(
            "session_pk",
            "stream_id",
            "stream_version",
            name=op.f("uq_write_streams_session_pk_stream_id_stream_version"),
        ),
    )
    op.create_table(
        "accepted_writes",
        sa.Column("stream_pk", _ID, nullable=False),
        sa.Column("retry_trace_id", sa.Text(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["stream_pk"], ["write_streams.pk"], name=op.f("fk_accepted_writes_stream_pk")
        ),
        sa.PrimaryKeyConstraint("stream_pk", "retry_trace_id", name=op.f("pk_accepted_writes")),
    )
    op.create_table(
        "staged_segments",
        sa.Column("pk", _ID, autoincrement=True, nullable=False),
        sa.Column("stream_pk", _ID, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("write_number", sa.BigInteger(), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("crc32c", sa.BigInteger(), nullable=False),
        sa.Column("batch_index", sa.LargeBinary(), nullable=False),
        sa.Column("dictionary_index", sa.LargeBinary(), nullable=False),
        sa.Column("codecs", sa.Text(), nullable=False),
        sa.Column("statistics", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["stream_pk"], ["write_streams.pk"], name=op.f("fk_staged_segments_stream_pk")
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_staged_segments")),
        sa.UniqueConstraint("key", name=op.f("uq_staged_segments_key")),
    )
    op.create_index("ix_staged_segments_stream_pk", "staged_segments", ["stream_pk"], unique=False)
