"""The fixed words of the Storage API: actions, versions, modes, states.

As docs/conformance.md, "Storage actions", lists them and PyODPS's ``odps.maxstorage`` spells them.
"""

from __future__ import annotations

import enum

__all__ = [
    "Action",
    "ApiVersion",
    "SessionStatus",
    "SplitMode",
    "TimeUnit",
    "WriteMode",
]


class ApiVersion(enum.IntEnum):
    """The version in the storage path ``/api/storage/v{N}``; features are gated by comparing these."""

    V2 = 2
    V3 = 3


class Action(enum.StrEnum):
    """The ``Action`` query parameter."""

    TABLE_CREATE_READ_SESSION = "TableCreateReadSession"
    TABLE_GET_READ_SESSION = "TableGetReadSession"
    TABLE_READ = "TableRead"
    TABLE_PREVIEW = "TablePreview"
    TABLE_CREATE_WRITE_SESSION = "TableCreateWriteSession"
    TABLE_GET_WRITE_SESSION = "TableGetWriteSession"
    TABLE_COMMIT_WRITE_SESSION = "TableCommitWriteSession"
    TABLE_ABORT_WRITE_SESSION = "TableAbortWriteSession"
    TABLE_CREATE_WRITE_STREAM = "TableCreateWriteStream"
    TABLE_GET_WRITE_STREAM = "TableGetWriteStream"
    TABLE_CLOSE_WRITE_STREAM = "TableCloseWriteStream"
    TABLE_GET_WRITE_SCHEMA = "TableGetWriteSchema"
    TABLE_WRITE = "TableWrite"
    TABLE_WRITE_BLOB = "TableWriteBlob"
    TABLE_APPEND = "TableAppend"
    """Ours: a whole append in one request."""
    BLOB_READ = "BlobRead"
    INSTANCE_CREATE_READ_SESSION = "InstanceCreateReadSession"
    INSTANCE_GET_READ_SESSION = "InstanceGetReadSession"
    INSTANCE_READ = "InstanceRead"


class WriteMode(enum.StrEnum):
    """How a write session makes rows visible."""

    BATCH = "Batch"
    BATCH_COMPATIBLE = "BatchCompatible"
    STREAMING = "Streaming"
    STREAMING_REALTIME = "StreamingRealtime"

    @property
    def is_streaming(self) -> bool:
        """Whether rows become visible when each TableWrite returns."""
        return self in {WriteMode.STREAMING, WriteMode.STREAMING_REALTIME}


class SplitMode(enum.StrEnum):
    """How a read session's rows are divided into splits."""

    SIZE = "Size"
    ROW_OFFSET = "RowOffset"
    PARALLELISM = "Parallelism"
    BUCKET = "Bucket"


class TimeUnit(enum.StrEnum):
    """The unit of timestamp columns in a reply; the values are the protocol's words."""

    SECOND = "second"
    MILLI = "milli"
    MICRO = "micro"
    NANO = "nano"

    @property
    def arrow(self) -> str:
        """The unit as pyarrow spells it."""
        return {"second": "s", "milli": "ms", "micro": "us", "nano": "ns"}[self.value]


class SessionStatus(enum.StrEnum):
    """States of read and write sessions; there is no ABORTED on the wire."""

    INIT = "INIT"
    NORMAL = "NORMAL"
    COMMITTING = "COMMITTING"
    COMMITTED = "COMMITTED"
    CRITICAL = "CRITICAL"
    EXPIRED = "EXPIRED"
