"""What must be known of a message's form before it can stand in a segment as it came."""

from __future__ import annotations

import functools

from fletching import ipc
from fletching.ipc.metadata import RecordBatchHeader
from fletching.ipc.schema_header import schema_header

__all__ = ["dictionary_ids", "is_aligned"]


def is_aligned(message: ipc.Message, header: RecordBatchHeader) -> bool:
    """Whether a message can stand in a file as it is: all it holds starts at multiples of 8."""
    return (
        message.prefix_length == 8
        and message.metadata_length % 8 == 0
        and message.body_length % 8 == 0
        and not (header.buffers[:, 0] & 7).any()
    )


@functools.lru_cache(maxsize=64)
def dictionary_ids(schema_message: bytes) -> tuple[int, ...]:
    """The ids of the dictionaries of a schema, in the order of its fields."""
    message = next(iter(ipc.messages(schema_message)))
    return tuple(
        node.dictionary_id
        for field in schema_header(message).fields
        for node in field.walk()
        if node.dictionary_id is not None
    )
