CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE access_keys (
	id TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	secret BLOB NOT NULL, 
	security_token BLOB, 
	comment TEXT NOT NULL, 
	created_at FLOAT NOT NULL, 
	expires_at FLOAT, 
	revoked_at FLOAT, 
	CONSTRAINT pk_access_keys PRIMARY KEY (id)
);

CREATE TABLE grants (
	pk INTEGER NOT NULL, 
	grantee TEXT NOT NULL, 
	project_pattern TEXT NOT NULL, 
	table_pattern TEXT NOT NULL, 
	permission TEXT NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_grants PRIMARY KEY (pk), 
	CONSTRAINT uq_grants_grantee_project_pattern_table_pattern_permission UNIQUE (grantee, project_pattern, table_pattern, permission)
);

CREATE TABLE leases (
	name TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	expires_at FLOAT NOT NULL, number BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_leases PRIMARY KEY (name)
);

CREATE TABLE projects (
	name_key TEXT NOT NULL, 
	name TEXT NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_projects PRIMARY KEY (name_key)
);

CREATE TABLE tables (
	id TEXT NOT NULL, 
	project_key TEXT NOT NULL, 
	schema_key TEXT NOT NULL, 
	name_key TEXT NOT NULL, 
	project TEXT NOT NULL, 
	schema TEXT NOT NULL, 
	name TEXT NOT NULL, 
	partition_columns TEXT NOT NULL, 
	schema_version INTEGER NOT NULL, 
	arrow_schema BLOB NOT NULL, 
	column_ids TEXT NOT NULL, 
	next_column_id INTEGER NOT NULL, 
	version BIGINT NOT NULL, 
	rows BIGINT NOT NULL, 
	bytes BIGINT NOT NULL, 
	segments BIGINT NOT NULL, 
	owner TEXT NOT NULL, 
	comment TEXT NOT NULL, 
	properties TEXT NOT NULL, 
	primary_key TEXT NOT NULL, 
	lifecycle_days INTEGER, 
	created_at FLOAT NOT NULL, 
	modified_at FLOAT NOT NULL, 
	dropped_at FLOAT, keyed BOOLEAN DEFAULT 0 NOT NULL, oldest_version BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_tables PRIMARY KEY (id)
);

CREATE UNIQUE INDEX uq_tables_live_name ON tables (project_key, schema_key, name_key) WHERE dropped_at IS NULL;

CREATE TABLE blob_packs (
	id TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	table_id TEXT NOT NULL, 
	session_pk INTEGER NOT NULL, 
	blobs BIGINT NOT NULL, 
	bytes BIGINT NOT NULL, 
	crc32c BIGINT NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_blob_packs PRIMARY KEY (id), 
	CONSTRAINT fk_blob_packs_table_id FOREIGN KEY(table_id) REFERENCES tables (id), 
	CONSTRAINT uq_blob_packs_key UNIQUE ("key")
);

CREATE INDEX ix_blob_packs_created_at ON blob_packs (created_at);

CREATE INDEX ix_blob_packs_table_id ON blob_packs (table_id);

CREATE TABLE segment_packs (
	segment_key TEXT NOT NULL, 
	pack_id TEXT NOT NULL, 
	CONSTRAINT pk_segment_packs PRIMARY KEY (segment_key, pack_id), 
	CONSTRAINT fk_segment_packs_pack_id FOREIGN KEY(pack_id) REFERENCES blob_packs (id)
);

CREATE INDEX ix_segment_packs_pack_id ON segment_packs (pack_id);

CREATE TABLE partitions (
	table_id TEXT NOT NULL, 
	partition TEXT NOT NULL, 
	rows BIGINT NOT NULL, 
	bytes BIGINT NOT NULL, 
	created_at FLOAT NOT NULL, 
	modified_at FLOAT NOT NULL, sort_key BLOB DEFAULT '' NOT NULL, 
	CONSTRAINT pk_partitions PRIMARY KEY (table_id, partition), 
	CONSTRAINT fk_partitions_table_id FOREIGN KEY(table_id) REFERENCES tables (id)
);

CREATE TABLE read_sessions (
	id TEXT NOT NULL, 
	table_id TEXT NOT NULL, 
	table_version BIGINT NOT NULL, 
	request BLOB NOT NULL, 
	"plan" BLOB, 
	created_at FLOAT NOT NULL, 
	expires_at FLOAT NOT NULL, since_version BIGINT, 
	CONSTRAINT pk_read_sessions PRIMARY KEY (id), 
	CONSTRAINT fk_read_sessions_table_id FOREIGN KEY(table_id) REFERENCES tables (id)
);

CREATE INDEX ix_read_sessions_expires_at ON read_sessions (expires_at);

CREATE INDEX ix_read_sessions_table_id_table_version ON read_sessions (table_id, table_version);

CREATE TABLE schemas (
	project_key TEXT NOT NULL, 
	name_key TEXT NOT NULL, 
	name TEXT NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_schemas PRIMARY KEY (project_key, name_key), 
	CONSTRAINT fk_schemas_project_key FOREIGN KEY(project_key) REFERENCES projects (name_key)
);

CREATE TABLE table_schemas (
	table_id TEXT NOT NULL, 
	schema_version INTEGER NOT NULL, 
	arrow_schema BLOB NOT NULL, 
	column_ids TEXT NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_table_schemas PRIMARY KEY (table_id, schema_version), 
	CONSTRAINT fk_table_schemas_table_id FOREIGN KEY(table_id) REFERENCES tables (id)
);

CREATE TABLE write_sessions (
	pk INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	table_id TEXT NOT NULL, 
	write_mode TEXT NOT NULL, 
	state TEXT NOT NULL, 
	partition_spec TEXT NOT NULL, 
	overwrite BOOLEAN NOT NULL, 
	enhance_write_check BOOLEAN NOT NULL, 
	flags TEXT NOT NULL, 
	schema_version INTEGER NOT NULL, 
	committed_version BIGINT, 
	commit_request TEXT, 
	created_at FLOAT NOT NULL, 
	expires_at FLOAT NOT NULL, 
	ended_at FLOAT, 
	CONSTRAINT pk_write_sessions PRIMARY KEY (pk), 
	CONSTRAINT fk_write_sessions_table_id FOREIGN KEY(table_id) REFERENCES tables (id), 
	CONSTRAINT uq_write_sessions_table_id_write_mode_id UNIQUE (table_id, write_mode, id)
);

CREATE INDEX ix_write_sessions_expires_at ON write_sessions (expires_at);

CREATE INDEX ix_write_sessions_id ON write_sessions (id);

CREATE TABLE write_streams (
	pk INTEGER NOT NULL, 
	session_pk INTEGER NOT NULL, 
	stream_id TEXT NOT NULL, 
	stream_version BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	exactly_once BOOLEAN NOT NULL, 
	token_digest BLOB, 
	row_offset BIGINT NOT NULL, 
	rows BIGINT NOT NULL, 
	bytes BIGINT NOT NULL, 
	writes BIGINT NOT NULL, 
	created_at FLOAT NOT NULL, 
	modified_at FLOAT NOT NULL, create_traces TEXT DEFAULT '[]' NOT NULL, 
	CONSTRAINT pk_write_streams PRIMARY KEY (pk), 
	CONSTRAINT fk_write_streams_session_pk FOREIGN KEY(session_pk) REFERENCES write_sessions (pk), 
	CONSTRAINT uq_write_streams_session_pk_stream_id_stream_version UNIQUE (session_pk, stream_id, stream_version)
);

CREATE TABLE accepted_writes (
	stream_pk INTEGER NOT NULL, 
	retry_trace_id TEXT NOT NULL, 
	response BLOB NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_accepted_writes PRIMARY KEY (stream_pk, retry_trace_id), 
	CONSTRAINT fk_accepted_writes_stream_pk FOREIGN KEY(stream_pk) REFERENCES write_streams (pk)
);

CREATE TABLE staged_segments (
	pk INTEGER NOT NULL, 
	stream_pk INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	partition TEXT NOT NULL, 
	write_number BIGINT NOT NULL, 
	schema_version INTEGER NOT NULL, 
	rows BIGINT NOT NULL, 
	bytes BIGINT NOT NULL, 
	crc32c BIGINT NOT NULL, 
	batch_index BLOB NOT NULL, 
	dictionary_index BLOB NOT NULL, 
	codecs TEXT NOT NULL, 
	statistics BLOB, 
	created_at FLOAT NOT NULL, key_run_offset BIGINT, key_run_length BIGINT, kind TEXT DEFAULT '' NOT NULL, superseded BLOB, zone_bounds BLOB, 
	CONSTRAINT pk_staged_segments PRIMARY KEY (pk), 
	CONSTRAINT fk_staged_segments_stream_pk FOREIGN KEY(stream_pk) REFERENCES write_streams (pk), 
	CONSTRAINT uq_staged_segments_key UNIQUE ("key")
);

CREATE INDEX ix_staged_segments_stream_pk ON staged_segments (stream_pk);

CREATE TABLE instances (
	id TEXT NOT NULL, 
	project_key TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	task_name TEXT NOT NULL, 
	statement TEXT NOT NULL, 
	succeeded BOOLEAN NOT NULL, 
	result TEXT NOT NULL, 
	selection BLOB, 
	created_at FLOAT NOT NULL, 
	ended_at FLOAT NOT NULL, kind TEXT DEFAULT 'SQL' NOT NULL, source TEXT DEFAULT '' NOT NULL, server TEXT DEFAULT '' NOT NULL, cancel_asked BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_instances PRIMARY KEY (id)
);

CREATE INDEX ix_instances_created_at ON instances (created_at);

CREATE TABLE table_versions (
	table_id TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	committed_us BIGINT NOT NULL, 
	operation TEXT NOT NULL, 
	data_change BOOLEAN NOT NULL, 
	schema_version INTEGER NOT NULL, 
	rows BIGINT NOT NULL, 
	bytes BIGINT NOT NULL, 
	segments BIGINT NOT NULL, 
	rows_inserted BIGINT NOT NULL, 
	rows_updated BIGINT NOT NULL, 
	rows_deleted BIGINT NOT NULL, 
	access_id TEXT NOT NULL, 
	read_version BIGINT NOT NULL, 
	CONSTRAINT pk_table_versions PRIMARY KEY (table_id, version), 
	CONSTRAINT fk_table_versions_table_id FOREIGN KEY(table_id) REFERENCES tables (id)
);

CREATE TABLE tags (
	table_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_tags PRIMARY KEY (table_id, name), 
	CONSTRAINT fk_tags_table_id FOREIGN KEY(table_id) REFERENCES tables (id)
);

CREATE TABLE deletions (
	id INTEGER NOT NULL, 
	table_id TEXT NOT NULL, 
	segment_id INTEGER NOT NULL, 
	segment_key TEXT NOT NULL, 
	added_version BIGINT NOT NULL, 
	removed_version BIGINT, 
	rows BIGINT NOT NULL, 
	batch_counts BLOB NOT NULL, 
	vector BLOB NOT NULL, 
	crc32c BIGINT NOT NULL, 
	CONSTRAINT pk_deletions PRIMARY KEY (id), 
	CONSTRAINT fk_deletions_table_id FOREIGN KEY(table_id) REFERENCES tables (id)
);

CREATE INDEX ix_deletions_segment_id ON deletions (segment_id);

CREATE INDEX ix_deletions_table_id_added_version ON deletions (table_id, added_version);

CREATE INDEX ix_deletions_removed ON deletions (table_id, removed_version) WHERE removed_version IS NOT NULL;

CREATE TABLE "segments" (
	id INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	table_id TEXT NOT NULL, 
	partition TEXT NOT NULL, 
	position BIGINT NOT NULL, 
	schema_version INTEGER NOT NULL, 
	rows BIGINT NOT NULL, 
	bytes BIGINT NOT NULL, 
	crc32c BIGINT NOT NULL, 
	batch_index BLOB NOT NULL, 
	dictionary_index BLOB NOT NULL, 
	codecs TEXT NOT NULL, 
	statistics BLOB, 
	added_version BIGINT NOT NULL, 
	removed_version BIGINT, 
	key_run_offset BIGINT, 
	key_run_length BIGINT, 
	replaced_by BIGINT, 
	replaced_base BIGINT, 
	replaced_version BIGINT, zone_bounds BLOB, 
	CONSTRAINT pk_segments PRIMARY KEY (id), 
	CONSTRAINT fk_segments_table_id FOREIGN KEY(table_id) REFERENCES tables (id), 
	CONSTRAINT uq_segments_key_added_version UNIQUE ("key", added_version)
);

CREATE INDEX ix_segments_table_id_position ON segments (table_id, position);

CREATE INDEX ix_segments_table_id_added_version ON segments (table_id, added_version);

CREATE INDEX ix_segments_removed ON segments (table_id, removed_version) WHERE removed_version IS NOT NULL;

CREATE TABLE store_identity (
	pk INTEGER NOT NULL, 
	store_id TEXT NOT NULL, 
	key_fingerprint TEXT, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_store_identity PRIMARY KEY (pk)
);

CREATE TABLE writers (
	id TEXT NOT NULL, 
	started_at FLOAT NOT NULL, 
	seen_at FLOAT NOT NULL, name TEXT DEFAULT '' NOT NULL, url TEXT DEFAULT '' NOT NULL, release TEXT DEFAULT '' NOT NULL, 
	CONSTRAINT pk_writers PRIMARY KEY (id)
);

CREATE TABLE orphans (
	"key" TEXT NOT NULL, 
	seen_at FLOAT NOT NULL, 
	CONSTRAINT pk_orphans PRIMARY KEY ("key")
);

CREATE UNIQUE INDEX ix_partitions_table_id_sort_key ON partitions (table_id, sort_key);

CREATE INDEX ix_segments_table_id_partition ON segments (table_id, partition, position);

CREATE INDEX ix_write_sessions_ended_at ON write_sessions (ended_at) WHERE ended_at IS NOT NULL;

CREATE INDEX ix_tables_dropped_at ON tables (dropped_at) WHERE dropped_at IS NOT NULL;

CREATE INDEX ix_accepted_writes_created_at ON accepted_writes (created_at);

CREATE INDEX ix_instances_project ON instances (project_key, created_at, id);

CREATE TABLE upkeep_runs (
	task TEXT NOT NULL, 
	started_at FLOAT NOT NULL, 
	ended_at FLOAT NOT NULL, 
	place TEXT NOT NULL, 
	summary TEXT NOT NULL, 
	problem_count BIGINT NOT NULL, 
	problems TEXT NOT NULL, 
	CONSTRAINT pk_upkeep_runs PRIMARY KEY (task)
);

CREATE TABLE merged_runs (
	id INTEGER NOT NULL, 
	table_id TEXT NOT NULL, 
	partition TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	entries BIGINT NOT NULL, 
	bytes BIGINT NOT NULL, 
	owners BLOB NOT NULL, 
	CONSTRAINT pk_merged_runs PRIMARY KEY (id), 
	CONSTRAINT uq_merged_runs_key UNIQUE ("key"), 
	CONSTRAINT fk_merged_runs_table_id FOREIGN KEY(table_id) REFERENCES tables (id)
);

CREATE INDEX ix_merged_runs_table_id_partition ON merged_runs (table_id, partition);

CREATE TABLE "change_keys" (
	table_id TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	report BLOB NOT NULL, 
	created_at FLOAT NOT NULL, 
	run_id TEXT, 
	CONSTRAINT pk_change_keys PRIMARY KEY (table_id, "key")
);

CREATE INDEX ix_change_keys_created_at ON change_keys (created_at);

CREATE INDEX ix_change_keys_run_id ON change_keys (run_id) WHERE run_id IS NOT NULL;

INSERT INTO alembic_version (version_num) VALUES ('0012');

