"""The fixed words and numbers of the Storage API: actions, versions, modes, states, limits.

As docs/conformance.md, "Storage actions", lists them and PyODPS's ``odps.maxstorage`` spells them.
"""

from __future__ import annotations

import enum
from typing import Final

from fletching.errors import InvalidArgumentError

__all__ = [
    "DELETE_CODE",
    "MAX_BATCH_BYTES",
    "MAX_BATCH_ROWS",
    "MAX_IDENTIFIER",
    "MAX_PREVIEW_ROWS",
    "MAX_TRACE_ID",
    "MAX_WAIT_SECONDS",
    "MIN_BATCH_BYTES",
    "OPERATION",
    "UPSERT_CODE",
    "Action",
    "ApiVersion",
    "SessionStatus",
    "SplitMode",
    "TimeUnit",
    "WriteMode",
    "block_stream_id",
]

MAX_BATCH_ROWS: Final = 20_000
"""Largest ``MaxBatchRows`` of a TableRead."""

MIN_BATCH_BYTES: Final = 1 << 20
MAX_BATCH_BYTES: Final = 256 << 20
"""Bounds of a non-zero ``MaxBatchRawSize``."""

MAX_PREVIEW_ROWS: Final = 10_000
"""Most rows of a preview; the protocol leaves it open."""

MAX_IDENTIFIER: Final = 255
"""Longest session id, stream id or table id, in characters."""

MAX_TRACE_ID: Final = 200
"""Longest retry trace id, in characters: it is kept with the rows, and compared whole."""

MAX_WAIT_SECONDS: Final = 60.0
"""How long one request waits for a new version; whoever waits longer asks again."""

OPERATION: Final = "__operation"
"""The system column that says what a row of a keyed write is for."""

UPSERT_CODE: Final = 85  # "U"
DELETE_CODE: Final = 68  # "D"
"""What stands in it."""


def block_stream_id(block_number: int, attempt_number: int) -> str:
    """The write stream that holds a block's attempt.

    Raises:
        InvalidArgumentError: a negative number.
    """
    if block_number < 0 or attempt_number < 0:
        raise InvalidArgumentError(
            f"block {block_number} attempt {attempt_number}: numbers count from 0"
        )
    return f"block-{block_number}-attempt-{attempt_number}"


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
