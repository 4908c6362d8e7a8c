"""The client: tables, scans, sessions, readers and writers, over HTTP or over a local folder.

Start with `connect`. See docs/client.md.
"""

from __future__ import annotations

from fletching.client.addresses import connect
from fletching.client.blobs.blob_access import BlobFile
from fletching.client.blobs.blob_streams import (
    BlobDataIterator,
    BlobStatus,
    BlobStreamReader,
    BlobStreamWriter,
)
from fletching.client.blobs.blob_values import Blob, reference_text
from fletching.client.call_options import NO_RETRIES, CallOptions, RetryPolicy, Timeouts
from fletching.client.change_reports import ChangeReport, TableVersion
from fletching.client.client import Client
from fletching.client.credentials import Credentials
from fletching.client.progress import Progress
from fletching.client.reading.arrow_reader import ArrowReader
from fletching.client.reading.read_session import ReadSession
from fletching.client.reading.resume_token import ResumeToken
from fletching.client.reading.scan import Scan
from fletching.client.reading.session_statistics import ColumnStatistics, SessionStatistics
from fletching.client.reading.split import Split
from fletching.client.retry import Timing
from fletching.client.table import Table
from fletching.client.tabular.catalog_names import Partition, TableEntry
from fletching.client.transports.stream_files import StreamReader, StreamWriter
from fletching.client.writing.arrow_writer import ArrowWriter
from fletching.client.writing.commit_message import CommitMessage
from fletching.client.writing.stream_writer import StreamingWriter
from fletching.client.writing.write_session import WriteSession

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
    "ChangeReport",
    "Client",
    "ColumnStatistics",
    "CommitMessage",
    "Credentials",
    "Partition",
    "Progress",
    "ReadSession",
    "ResumeToken",
    "RetryPolicy",
    "Scan",
    "SessionStatistics",
    "Split",
    "StreamReader",
    "StreamWriter",
    "StreamingWriter",
    "Table",
    "TableEntry",
    "TableVersion",
    "Timeouts",
    "Timing",
    "WriteSession",
    "connect",
    "reference_text",
]
