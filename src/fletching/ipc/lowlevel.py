"""What the functions of `fletching.ipc` are made of, for programs that need a part of them.

Usable and documented, and without the promise of the front door: names here may change with any
release, which its changelog then says.
"""

from __future__ import annotations

from fletching.ipc.batches import BatchDecoder
from fletching.ipc.constant_arrays import Constant
from fletching.ipc.decoder import DecoderState
from fletching.ipc.embedding import Batches, BatchIterator
from fletching.ipc.encoding import BatchEncoder, encode_batch, encode_schema
from fletching.ipc.file_writer import Block
from fletching.ipc.message import END_OF_STREAM
from fletching.ipc.metadata import Codec, DictionaryBatchHeader, MessageType, MetadataVersion
from fletching.ipc.projection import ProjectedMessage, Projection, Projector, plan_projection
from fletching.ipc.recovery import Recovery
from fletching.ipc.reports import (
    BufferReport,
    ColumnReport,
    Inspection,
    MessageReport,
    PartReport,
    Problem,
)
from fletching.ipc.schema_header import read_schema
from fletching.ipc.walking import MessageIterator

__all__ = [
    "END_OF_STREAM",
    "BatchDecoder",
    "BatchEncoder",
    "BatchIterator",
    "Batches",
    "Block",
    "BufferReport",
    "Codec",
    "ColumnReport",
    "Constant",
    "DecoderState",
    "DictionaryBatchHeader",
    "Inspection",
    "MessageIterator",
    "MessageReport",
    "MessageType",
    "MetadataVersion",
    "PartReport",
    "Problem",
    "ProjectedMessage",
    "Projection",
    "Projector",
    "Recovery",
    "encode_batch",
    "encode_schema",
    "plan_projection",
    "read_schema",
]
