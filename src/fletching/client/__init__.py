"""The client: tables, scans, sessions, readers and writers, over HTTP or over a local folder.

Start with `connect`. See docs/client.md.
"""

from __future__ import annotations

from fletching.client.blob_streams import (
    BlobDataIterator,
    BlobStatus,
    BlobStreamReader,
    BlobStreamWriter,
)
from fletching.client.blob_values import Blob, reference_text
from fletching.client.blobs import BlobFile
from fletching.client.catalog_names import Partition, TableEntry
from fletching.client.client import Client
from fletching.client.connecting import connect
from fletching.client.credentials import Credentials
from fletching.client.options import CallOptions, Timeouts
from fletching.client.reader import ArrowReader
from fletching.client.retry import NO_RETRIES, RetryPolicy, Timing
from fletching.client.scan import Scan
from fletching.client.sessions import WriteSession
from fletching.client.split import Split
from fletching.client.stream_files import StreamReader, StreamWriter
from fletching.client.streaming import StreamingWriter
from fletching.client.table import Table
from fletching.client.token import ResumeToken
from fletching.client.writers import ArrowWriter

__all__ = [
    "NO_RETRIES",
    "ArrowReader",
    "ArrowWriter",
    "Blob",
    "BlobDataIterator",
    "BlobFile",
    "BlobStatus",
    "BlobStreamReader",
    "BlobStreamWriter",
    "CallOptions",
    "Client",
    "Credentials",
    "Partition",
    "ResumeToken",
    "RetryPolicy",
    "Scan",
    "Split",
    "StreamReader",
    "StreamWriter",
    "StreamingWriter",
    "Table",
    "TableEntry",
    "Timeouts",
    "Timing",
    "WriteSession",
    "connect",
    "reference_text",
]
