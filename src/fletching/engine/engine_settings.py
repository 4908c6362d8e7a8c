"""What an engine may be told: lifetimes, limits, where catalog and objects are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from fletching.errors import UsageError
from fletching.ipc.limits import Limits
from fletching.settings import StorageSettings, storage_settings

__all__ = ["SESSION_RETRY_SECONDS", "EngineSettings"]

SESSION_RETRY_SECONDS = 60.0
"""When to try again after too many open sessions: they end by commit, abort, release or expiry."""

_MIB = 1 << 20
_GIB = 1 << 30
_DAY_SECONDS = 86_400.0


def _write_limits() -> Limits:
    return Limits(
        max_metadata_bytes=16 * _MIB,
        max_body_bytes=512 * _MIB,
        max_uncompressed_bytes=_GIB,
        max_dictionary_bytes=512 * _MIB,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Settings of an engine; every one has a default that suits a single host.

    Attributes:
        catalog_url: a PostgreSQL URL; None keeps the catalog in the folder, in SQLite. Hosts that
            share one also need the same server key.
        objects_url: an object store's URL (``s3://bucket/prefix``); None keeps objects in the folder.
        server_key_file: where the server key is; None for ``server.key`` in the folder.
        server_key: the server key itself in hexadecimal digits, instead of a file.
        catalog_pool: connections to PostgreSQL at most.
        catalog_migrate: whether opening a catalog of an older release brings it up to date; False
            refuses it.
        cache_dir: a folder for copies of segments that come from an object store; None keeps none.
        cache_bytes: the most that they may take.
        objects_mapped: whether local objects are mapped into memory. False reads them, for disks
            that fail under a mapping.
        objects_resident_bytes: about how much of the mapped objects stays in the process's page
            tables; None leaves it to the system.
        create_projects: whether a project that is named for the first time comes into being.
        route_token: what replies carry for clients to send back.
        busy_timeout_seconds: how long a transaction waits for another process's.

        read_session_seconds: life of a read session, and of the snapshot that it pins.
        read_sessions_shared: other processes answer for the sessions that this one opens, so that
            they are in the catalog before anybody hears of them.
        write_session_seconds: life of a write session since its last use.
        stream_seconds: life of an idle stream of a ``default`` session, and so of the memory of
            its row offset.
        blob_seconds: life of uploaded blobs whose session never committed, since its last use.
        retain_seconds: how long the versions of a table stay readable after the next one, in tables
            whose property ``acid.data.retain.hours`` does not say.
        removed_seconds: how long a dropped table, and an expired read session, stays.
        orphan_seconds: age at which an object that the catalog does not know is garbage, unless
            its writer is known to have died, in which case it is at once.

        write_limits: what an Arrow body may claim, message by message.
        max_write_batches: record batches in one TableWrite.
        max_write_empty_batches: of these, batches without rows.
        max_write_partitions: partitions that one TableWrite may touch.
        max_columns: data columns of a table.
        max_partition_columns: partition columns of a table.
        max_session_streams: streams and stream versions of one write session.
        max_read_sessions: read sessions that are open at once; each keeps a snapshot from being
            collected.
        max_write_sessions: write sessions that are open at once, the ``default`` ones not counted.
        validate_values: whether values must also be what their types allow (UTF-8 in strings,
            dates in whole days); memory safety is always checked.

        max_blob_bytes: bytes of one blob.
        max_blob_upload_bytes: decoded bytes of one upload.
        max_blobs_per_upload: frames of one batch upload.
        max_blob_ratio: decoded to coded bytes of a compressed upload, from 64 MiB on.
        max_blobs_per_read: references of one request.

        maintenance_seconds: between rounds of upkeep in the background, where it is started.
        compact_segment_bytes: segments below this size are worth merging.
        compact_target_bytes: size up to which they are merged.
        compact_min_segments: how many neighbours it takes.

        sql_workers: statements that run at once; others wait.
        sql_memory_bytes: memory of one query's sorts, joins and aggregates; what is more is spilled.
        sql_threads: threads that one query computes with.
        sql_spill_bytes: most bytes that one query spills.
        sql_spill_folder: where queries spill; None is the system's folder for temporary files.
        sql_seconds: how long one query may run.
    """

    catalog_url: str | None = None
    objects_url: str | None = None
    server_key_file: str | Path | None = None
    server_key: str | None = dataclasses.field(default=None, repr=False)
    catalog_pool: int = 50
    catalog_migrate: bool = True
    cache_dir: str | Path | None = None
    cache_bytes: int = 16 * _GIB
    objects_mapped: bool = True
    objects_resident_bytes: int | None = None
    create_projects: bool = True
    route_token: str = "local"  # noqa: S105 - a routing hint, not a secret
    busy_timeout_seconds: float = 30.0

    read_session_seconds: float = _DAY_SECONDS
    read_sessions_shared: bool = False
    write_session_seconds: float = _DAY_SECONDS
    stream_seconds: float = 30 * _DAY_SECONDS
    blob_seconds: float = _DAY_SECONDS
    retain_seconds: float = _DAY_SECONDS
    removed_seconds: float = 3_600.0
    orphan_seconds: float = 3_600.0

    write_limits: Limits = dataclasses.field(default_factory=_write_limits)
    max_write_batches: int = 1_000_000
    max_write_empty_batches: int = 1_000
    max_write_partitions: int = 512
    max_columns: int = 10_000
    max_partition_columns: int = 16
    max_session_streams: int = 20_000
    max_read_sessions: int = 20_000
    max_write_sessions: int = 20_000
    validate_values: bool = True

    max_blob_bytes: int = 1024 * _GIB
    max_blob_upload_bytes: int = 1024 * _GIB
    max_blobs_per_upload: int = 100_000
    max_blob_ratio: int = 1_000
    max_blobs_per_read: int = 100_000

    maintenance_seconds: float = 60.0
    compact_segment_bytes: int = 16 * _MIB
    compact_target_bytes: int = 128 * _MIB
    compact_min_segments: int = 8

    sql_workers: int = 4
    sql_memory_bytes: int = _GIB
    sql_threads: int = 2
    sql_spill_bytes: int = 16 * _GIB
    sql_spill_folder: str | None = None
    sql_seconds: float = 3_600.0

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str],
        *,
        catalog: str | None = None,
        objects: str | None = None,
        server_key_file: str | Path | None = None,
        create_projects: bool = True,
    ) -> Self:
        """Where catalog, objects and server key are: as given, else as ``FLETCHING_*`` says.

        Args:
            environment: the variables of ``StorageSettings`` and ``FLETCHING_CONFIG`` count; an
                empty one means the folder.
            catalog: a PostgreSQL URL.
            objects: an object store's URL.
            server_key_file: a path.
            create_projects: the setting of this name.

        Raises:
            UsageError: a URL of another kind, or a variable of our name that is not known.
        """
        storage, _ = storage_settings(
            environment, catalog=catalog, objects=objects, server_key_file=server_key_file
        )
        return cls.of(storage, create_projects=create_projects)

    @classmethod
    def of(cls, storage: StorageSettings, **more: Any) -> Self:
        """Settings of an engine over a data set; ``more`` are fields of this class."""
        return cls(
            catalog_url=storage.catalog,
            objects_url=storage.objects,
            server_key_file=storage.server_key_file,
            server_key=storage.server_key,
            catalog_pool=storage.catalog_pool,
            catalog_migrate=storage.catalog_migrate,
            cache_dir=storage.cache_dir,
            cache_bytes=storage.cache_bytes,
            **more,
        )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
                raise UsageError(f"setting {field.name} is {value}, but must not be negative")
