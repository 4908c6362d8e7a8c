"""Arrow IPC building blocks: walk, embed, project and open at random, zero-copy and safe on hostile bytes.

Usable without the rest of the package and without a server. Pure: nothing here opens a socket,
starts a thread or looks at a clock. See docs/ipc.md.
"""

from __future__ import annotations

from fletching.ipc.batches import BatchDecoder
from fletching.ipc.decoder import DecoderState, MessageDecoder
from fletching.ipc.embedding import (
    Batches,
    read_prefixed,
    read_prefixed_at,
    read_single,
    read_single_at,
    read_stream,
    read_stream_at,
    write_prefixed,
    write_stream,
)
from fletching.ipc.encoding import BatchEncoder, encode_batch, encode_schema
from fletching.ipc.file import ArrowFile, open_file
from fletching.ipc.file_writer import Block, FileWriter
from fletching.ipc.inspection import inspect_bytes
from fletching.ipc.limits import Limits
from fletching.ipc.message import END_OF_STREAM, Message
from fletching.ipc.metadata import (
    Codec,
    DictionaryBatchHeader,
    MessageType,
    MetadataVersion,
    RecordBatchHeader,
)
from fletching.ipc.projection import (
    Constant,
    ProjectedMessage,
    Projection,
    Projector,
    plan_projection,
    project,
)
from fletching.ipc.recovery import Recovery, recover
from fletching.ipc.reports import (
    BufferReport,
    ColumnReport,
    Inspection,
    MessageReport,
    PartReport,
    Problem,
)
from fletching.ipc.schema_header import read_schema
from fletching.ipc.validation import validate
from fletching.ipc.walking import MessageIterator, messages, read_message

__all__ = [
    "END_OF_STREAM",
    "ArrowFile",
    "BatchDecoder",
    "BatchEncoder",
    "Batches",
    "Block",
    "BufferReport",
    "Codec",
    "ColumnReport",
    "Constant",
    "DecoderState",
    "DictionaryBatchHeader",
    "FileWriter",
    "Inspection",
    "Limits",
    "Message",
    "MessageDecoder",
    "MessageIterator",
    "MessageReport",
    "MessageType",
    "MetadataVersion",
    "PartReport",
    "Problem",
    "ProjectedMessage",
    "Projection",
    "Projector",
    "RecordBatchHeader",
    "Recovery",
    "encode_batch",
    "encode_schema",
    "inspect_bytes",
    "messages",
    "open_file",
    "plan_projection",
    "project",
    "read_message",
    "read_prefixed",
    "read_prefixed_at",
    "read_schema",
    "read_single",
    "read_single_at",
    "read_stream",
    "read_stream_at",
    "recover",
    "validate",
    "write_prefixed",
    "write_stream",
]
