"""Every table of the catalog, as it is after the newest migration.

Conventions: times are seconds since the epoch (float); names are kept as written and, for lookup,
case-folded in a ``*_key`` column; a partition is the JSON array of its values (``["20260101"]``,
and ``[]`` for a table without partitions), so that it compares and indexes as one text; versions
are integers that count the commits of one table.

A segment is visible in version ``v`` when ``added_version <= v`` and not ``removed_version <= v``.
Deletions, the rows of a segment that went in one version, are visible by the same rule.

The module is long because it is one list: whoever writes a statement finds every column here.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

__all__ = [
    "accepted_writes",
    "access_keys",
    "blob_packs",
    "change_keys",
    "deletions",
    "grants",
    "instances",
    "leases",
    "merged_runs",
    "metadata",
    "orphans",
    "partitions",
    "projects",
    "read_sessions",
    "schemas",
    "segment_packs",
    "segments",
    "staged_segments",
    "store_identity",
    "table_schemas",
    "table_versions",
    "tables",
    "tags",
    "upkeep_runs",
    "write_sessions",
    "write_streams",
    "writers",
]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite counts rows by itself only in columns declared INTEGER; those hold 64 bits there.
_Id = BigInteger().with_variant(Integer, "sqlite")

# One row: which objects are this catalog's, and which server key made what is sealed in it.
store_identity = Table(
    "store_identity",
    metadata,
    Column("pk", Integer, primary_key=True),  # always 1
    Column("store_id", Text, nullable=False),
    Column("key_fingerprint", Text),
    Column("created_at", Float, nullable=False),
)

# Openings of an object store that cannot tell by itself who lives: one row each, renewed while it
# does. What a writer records counts only while its row is here.
writers = Table(
    "writers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    # Of servers alone: what people call it, where it is reached, which release it runs.
    Column("name", Text, nullable=False, server_default=""),
    Column("url", Text, nullable=False, server_default=""),
    Column("release", Text, nullable=False, server_default=""),
)

# Objects that no row names and whose writer is unknown, since when a pass of retention knows them.
orphans = Table(
    "orphans",
    metadata,
    Column("key", Text, primary_key=True),
    Column("seen_at", Float, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("name_key", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", Float, nullable=False),
)

schemas = Table(
    "schemas",
    metadata,
    Column("project_key", Text, ForeignKey("projects.name_key"), primary_key=True),
    Column("name_key", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", Float, nullable=False),
)

tables = Table(
    "tables",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_key", Text, nullable=False),
    Column("schema_key", Text, nullable=False),
    Column("name_key", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("schema", Text, nullable=False),
    Column("name", Text, nullable=False),
    # JSON: [[name, ODPS type], ...]
    Column("partition_columns", Text, nullable=False),
    # The newest row of table_schemas, repeated here so that one query describes a table.
    Column("schema_version", Integer, nullable=False),
    Column("arrow_schema", LargeBinary, nullable=False),
    # JSON: per data column, the ids of the column and its nested nodes, depth-first
    Column("column_ids", Text, nullable=False),
    Column("next_column_id", Integer, nullable=False),
    Column("version", BigInteger, nullable=False),
    # Totals of what is visible in `version`, kept by the transactions that change it.
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("segments", BigInteger, nullable=False),
    Column("owner", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("properties", Text, nullable=False),  # JSON object
    Column("primary_key", Text, nullable=False),  # JSON array of names
    # Whether the key is kept unique: false for tables whose key was declared before it was.
    Column("keyed", Boolean, nullable=False, server_default=false()),
    # The horizon: older versions than this are readable only if a tag pins them.
    Column("oldest_version", BigInteger, nullable=False, server_default="0"),
    Column("lifecycle_days", Integer),
    Column("created_at", Float, nullable=False),
    Column("modified_at", Float, nullable=False),
    Column("dropped_at", Float),
)
Index(
    "uq_tables_live_name",
    tables.c.project_key,
    tables.c.schema_key,
    tables.c.name_key,
    unique=True,
    sqlite_where=text("dropped_at IS NULL"),
    postgresql_where=text("dropped_at IS NULL"),
)
Index(
    "ix_tables_dropped_at",
    tables.c.dropped_at,
    sqlite_where=text("dropped_at IS NOT NULL"),
    postgresql_where=text("dropped_at IS NOT NULL"),
)

table_schemas = Table(
    "table_schemas",
    metadata,
    Column("table_id", Text, ForeignKey("tables.id"), primary_key=True),
    Column("schema_version", Integer, primary_key=True),
    Column("arrow_schema", LargeBinary, nullable=False),
    Column("column_ids", Text, nullable=False),
    Column("created_at", Float, nullable=False),
)

# What each version was: the history that versions(), as_of(), restore() and the change feed go by.
table_versions = Table(
    "table_versions",
    metadata,
    Column("table_id", Text, ForeignKey("tables.id"), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    # Microseconds since the epoch, above those of the version before, whatever the clocks say.
    Column("committed_us", BigInteger, nullable=False),
    Column("operation", Text, nullable=False),
    # False where the rows are the same as in the version before (compaction, a renamed column).
    Column("data_change", Boolean, nullable=False),
    Column("schema_version", Integer, nullable=False),
    # Totals of what is visible in the version.
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("segments", BigInteger, nullable=False),
    Column("rows_inserted", BigInteger, nullable=False),
    Column("rows_updated", BigInteger, nullable=False),
    Column("rows_deleted", BigInteger, nullable=False),
    Column("access_id", Text, nullable=False),
    # The version that the change was worked out from.
    Column("read_version", BigInteger, nullable=False),
)

# A tag is a name for a version that retention keeps.
tags = Table(
    "tags",
    metadata,
    Column("table_id", Text, ForeignKey("tables.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
)

# What changes with an idempotency key did, so that their repetition changes nothing.
change_keys = Table(
    "change_keys",
    metadata,
    # Of what makes, drops and renames tables and schemas their names, with a dot between them.
    Column("table_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("report", LargeBinary, nullable=False),  # JSON
    Column("created_at", Float, nullable=False),
    # Of the changes of statements, by what these are known.
    Column("run_id", Text, nullable=True),
)
Index("ix_change_keys_created_at", change_keys.c.created_at)
_of_runs = change_keys.c.run_id.is_not(None)
Index(
    "ix_change_keys_run_id",
    change_keys.c.run_id,
    sqlite_where=_of_runs,
    postgresql_where=_of_runs,
)

partitions = Table(
    "partitions",
    metadata,
    Column("table_id", Text, ForeignKey("tables.id"), primary_key=True),
    Column("partition", Text, primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("modified_at", Float, nullable=False),
    # The values in UTF-8 with zero bytes between them: sorts as the values do, in every database.
    Column("sort_key", LargeBinary, nullable=False, server_default=""),
)
Index("ix_partitions_table_id_sort_key", partitions.c.table_id, partitions.c.sort_key, unique=True)

segments = Table(
    "segments",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    # A segment that is restored has a second row with the same key: it is one object.
    Column("key", Text, nullable=False),
    Column("table_id", Text, ForeignKey("tables.id"), nullable=False),
    Column("partition", Text, nullable=False),
    # Where its rows stand among the table's: commit order, then stream id, then write order.
    Column("position", BigInteger, nullable=False),
    Column("schema_version", Integer, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("crc32c", BigInteger, nullable=False),
    # Little-endian int64 rows: offset, metadata length, body length, rows of each record batch.
    Column("batch_index", LargeBinary, nullable=False),
    # The same for dictionary batches, with the dictionary's id in place of rows; empty if none.
    Column("dictionary_index", LargeBinary, nullable=False),
    # Codecs of the batches' buffers: "", "lz4", "zstd", or several with commas.
    Column("codecs", Text, nullable=False),
    Column("statistics", LargeBinary),
    # Where the key run lies in the object, in a table with a key; see engine/changes/key_runs.py.
    Column("key_run_offset", BigInteger),
    Column("key_run_length", BigInteger),
    # Bounds of the columns in parts of a large segment; see engine/tables/zone_bounds.py.
    Column("zone_bounds", LargeBinary),
    Column("added_version", BigInteger, nullable=False),
    Column("removed_version", BigInteger),
    # Of a compacted segment: which one has its rows now, from which row on, and the version whose
    # deletions were left out of it. A change that still names the old segment is moved by these.
    Column("replaced_by", BigInteger),
    Column("replaced_base", BigInteger),
    Column("replaced_version", BigInteger),
    UniqueConstraint("key", "added_version"),
)
Index("ix_segments_table_id_position", segments.c.table_id, segments.c.position)
Index("ix_segments_table_id_added_version", segments.c.table_id, segments.c.added_version)
Index(
    "ix_segments_table_id_partition",
    segments.c.table_id,
    segments.c.partition,
    segments.c.position,
)
Index(
    "ix_segments_removed",
    segments.c.table_id,
    segments.c.removed_version,
    sqlite_where=text("removed_version IS NOT NULL"),
    postgresql_where=text("removed_version IS NOT NULL"),
)

# Key runs of many segments of a partition in one object: entries are found in it in place of the
# segments' own runs. They belong to no version, since a segment's entries never change; what has a row here
# can be made anew from the segments at any time. See engine/changes/key_runs.py.
merged_runs = Table(
    "merged_runs",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("table_id", Text, ForeignKey("tables.id"), nullable=False),
    Column("partition", Text, nullable=False),
    Column("key", Text, nullable=False, unique=True),
    Column("entries", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    # Keys of the segments, a line each, deflated: entries name them by their place among these.
    Column("owners", LargeBinary, nullable=False),
)
Index("ix_merged_runs_table_id_partition", merged_runs.c.table_id, merged_runs.c.partition)

# Which rows of a segment went in one version: visible by the segments' rule, and disjoint from the
# segment's other deletions that are visible in the same version.
deletions = Table(
    "deletions",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("table_id", Text, ForeignKey("tables.id"), nullable=False),
    Column("segment_id", _Id, nullable=False),
    Column("segment_key", Text, nullable=False),
    Column("added_version", BigInteger, nullable=False),
    Column("removed_version", BigInteger),
    Column("rows", BigInteger, nullable=False),
    # Little-endian int32 pairs: a record batch's number and how many of its rows went.
    Column("batch_counts", LargeBinary, nullable=False),
    # The rows' numbers in the segment, a roaring bitmap in the portable format, and its CRC32C.
    Column("vector", LargeBinary, nullable=False),
    Column("crc32c", BigInteger, nullable=False),
)
Index("ix_deletions_segment_id", deletions.c.segment_id)
Index("ix_deletions_table_id_added_version", deletions.c.table_id, deletions.c.added_version)
Index(
    "ix_deletions_removed",
    deletions.c.table_id,
    deletions.c.removed_version,
    sqlite_where=text("removed_version IS NOT NULL"),
    postgresql_where=text("removed_version IS NOT NULL"),
)

read_sessions = Table(
    "read_sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("table_id", Text, ForeignKey("tables.id"), nullable=False),
    # The snapshot: nothing visible in this version is collected while the session lives.
    Column("table_version", BigInteger, nullable=False),
    # Of a change feed: the version that it begins after; every version in between is kept, too.
    Column("since_version", BigInteger),
    Column("request", LargeBinary, nullable=False),
    # What the reading room derived at creation and wants back; opaque here.
    Column("plan", LargeBinary),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
)
Index(
    "ix_read_sessions_table_id_table_version",
    read_sessions.c.table_id,
    read_sessions.c.table_version,
)
Index("ix_read_sessions_expires_at", read_sessions.c.expires_at)

write_sessions = Table(
    "write_sessions",
    metadata,
    Column("pk", _Id, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False),
    Column("table_id", Text, ForeignKey("tables.id"), nullable=False),
    Column("write_mode", Text, nullable=False),
    Column("state", Text, nullable=False),
    # JSON: [[name, value], ...] of the statically bound partition columns
    Column("partition_spec", Text, nullable=False),
    Column("overwrite", Boolean, nullable=False),
    Column("enhance_write_check", Boolean, nullable=False),
    Column("flags", Text, nullable=False),  # JSON object
    Column("schema_version", Integer, nullable=False),
    # What a commit did, so that its repetition gets the same answer.
    Column("committed_version", BigInteger),
    Column("commit_request", Text),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("ended_at", Float),
    UniqueConstraint("table_id", "write_mode", "id"),
)
Index("ix_write_sessions_id", write_sessions.c.id)
Index("ix_write_sessions_expires_at", write_sessions.c.expires_at)
Index(
    "ix_write_sessions_ended_at",
    write_sessions.c.ended_at,
    sqlite_where=text("ended_at IS NOT NULL"),
    postgresql_where=text("ended_at IS NOT NULL"),
)

write_streams = Table(
    "write_streams",
    metadata,
    Column("pk", _Id, primary_key=True, autoincrement=True),
    Column("session_pk", _Id, ForeignKey("write_sessions.pk"), nullable=False),
    Column("stream_id", Text, nullable=False),
    Column("stream_version", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    # Counts the re-creations of one (id, version): an ingest of an earlier one may not land.
    Column("attempt", Integer, nullable=False),
    Column("exactly_once", Boolean, nullable=False),
    Column("token_digest", LargeBinary),
    Column("row_offset", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("writes", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("modified_at", Float, nullable=False),
    # JSON array: retry trace ids of the latest requests that created it.
    Column("create_traces", Text, nullable=False, server_default="[]"),
    UniqueConstraint("session_pk", "stream_id", "stream_version"),
)

staged_segments = Table(
    "staged_segments",
    metadata,
    Column("pk", _Id, primary_key=True, autoincrement=True),
    Column("stream_pk", _Id, ForeignKey("write_streams.pk"), nullable=False),
    Column("key", Text, nullable=False, unique=True),
    Column("partition", Text, nullable=False),
    # Which TableWrite of the stream made it.
    Column("write_number", BigInteger, nullable=False),
    Column("schema_version", Integer, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("crc32c", BigInteger, nullable=False),
    Column("batch_index", LargeBinary, nullable=False),
    Column("dictionary_index", LargeBinary, nullable=False),
    Column("codecs", Text, nullable=False),
    Column("statistics", LargeBinary),
    Column("key_run_offset", BigInteger),
    Column("key_run_length", BigInteger),
    # Bounds of the columns in parts of a large segment; see engine/tables/zone_bounds.py.
    Column("zone_bounds", LargeBinary),
    # "" for rows; "deletes" for keys whose rows are to go.
    Column("kind", Text, nullable=False, server_default=""),
    # Rows that a later one of the same write replaces (a roaring bitmap); null for none.
    Column("superseded", LargeBinary),
    Column("created_at", Float, nullable=False),
)
Index("ix_staged_segments_stream_pk", staged_segments.c.stream_pk)

accepted_writes = Table(
    "accepted_writes",
    metadata,
    Column("stream_pk", _Id, ForeignKey("write_streams.pk"), primary_key=True),
    Column("retry_trace_id", Text, primary_key=True),
    Column("response", LargeBinary, nullable=False),  # JSON of the WriteResult
    Column("created_at", Float, nullable=False),
)
Index("ix_accepted_writes_created_at", accepted_writes.c.created_at)

blob_packs = Table(
    "blob_packs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("table_id", Text, ForeignKey("tables.id"), nullable=False),
    # The write session that uploaded it; the session may be gone before the pack.
    Column("session_pk", _Id, nullable=False),
    Column("blobs", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("crc32c", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
)
Index("ix_blob_packs_table_id", blob_packs.c.table_id)
Index("ix_blob_packs_created_at", blob_packs.c.created_at)

# Which packs the rows of a segment, staged or published, refer to. A pack that no segment is
# linked to, and whose session is over, is garbage. Rows of segments that are gone are removed when
# packs are collected.
segment_packs = Table(
    "segment_packs",
    metadata,
    Column("segment_key", Text, primary_key=True),
    Column("pack_id", Text, ForeignKey("blob_packs.id"), primary_key=True),
)
Index("ix_segment_packs_pack_id", segment_packs.c.pack_id)

access_keys = Table(
    "access_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("secret", LargeBinary, nullable=False),  # encrypted with the server key
    Column("security_token", LargeBinary),  # likewise
    Column("comment", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
)

grants = Table(
    "grants",
    metadata,
    Column("pk", _Id, primary_key=True, autoincrement=True),
    Column("grantee", Text, nullable=False),
    Column("project_pattern", Text, nullable=False),
    Column("table_pattern", Text, nullable=False),
    Column("permission", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("grantee", "project_pattern", "table_pattern", "permission"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("expires_at", Float, nullable=False),
    # Grows whenever the lease passes to another holder: what an earlier one does late is refused.
    Column("number", BigInteger, nullable=False, server_default="0"),
)

# The last run of each task of upkeep, whoever ran it: a row is replaced by a later run's.
upkeep_runs = Table(
    "upkeep_runs",
    metadata,
    Column("task", Text, primary_key=True),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float, nullable=False),
    Column("place", Text, nullable=False),  # the machine and process that ran it
    Column("summary", Text, nullable=False),
    Column("problem_count", BigInteger, nullable=False),
    Column("problems", Text, nullable=False),  # JSON: the first of them, in words
)

# SQL statements that were run: they end before the reply, so there is no state but the outcome.
instances = Table(
    "instances",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_key", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("task_name", Text, nullable=False),
    Column("statement", Text, nullable=False),
    Column("succeeded", Boolean, nullable=False),
    # What the statement printed, or what went wrong.
    Column("result", Text, nullable=False),
    # JSON: which rows a SELECT chose; null for other statements.
    Column("selection", LargeBinary),
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float, nullable=False),
    # What kind of job it is, and the job as its client submitted it, without the statement.
    Column("kind", Text, nullable=False, server_default="SQL"),
    Column("source", Text, nullable=False, server_default=""),
    # The writer that runs it, which is asked to stop by the flag.
    Column("server", Text, nullable=False, server_default=""),
    Column("cancel_asked", Boolean, nullable=False, server_default=false()),
)
Index("ix_instances_created_at", instances.c.created_at)
Index("ix_instances_project", instances.c.project_key, instances.c.created_at, instances.c.id)
