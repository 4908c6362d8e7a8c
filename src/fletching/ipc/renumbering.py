"""Another id for a dictionary batch, without touching its values.

A stream has one id per dictionary-encoded field, so messages that come from writers which numbered
theirs differently need new metadata around the same body before they can stand in one stream.
"""

from __future__ import annotations

import struct
from typing import Final

from fletching.ipc.encoding import frame_metadata
from fletching.ipc.metadata import read_message_header

__all__ = ["renumbered"]

_DICTIONARY_BATCH: Final = 2
_WRAPPER: Final = struct.Struct("<II 6H4x iIqhBxI 5H6x iIqBxxxI")
_INNER: Final = _WRAPPER.size


def renumbered(metadata: memoryview, dictionary_id: int) -> bytes:
    """Framed metadata of a dictionary batch with another id and the same description of its values.

    The id may be absent from the old flatbuffer (it is when it is 0), so it cannot be written over.
    Instead a new message and dictionary batch table are put before the old flatbuffer, whose record
    batch table they refer to: references inside a flatbuffer are relative and lead forward.

    ======  ======================================================
    offset  what
    ======  ======================================================
    0       root offset: 24
    8       vtable of Message
    24      Message: header, body length, version, type
    48      vtable of DictionaryBatch
    64      DictionaryBatch: data, id, is delta
    88      the old flatbuffer
    ======  ======================================================

    Raises:
        MalformedFrameError: the metadata is not that of a dictionary batch.
    """
    flatbuffer = metadata[8:]
    header = read_message_header(flatbuffer)
    is_delta = header.dictionary_batch().is_delta
    data = header.table.table(1)
    assert data is not None  # reading the dictionary batch has found it
    wrapper = _WRAPPER.pack(
        *(24, 0),
        *(12, 24, 16, 18, 4, 8),  # Message: version, type, header, body length
        *(16, 64 - 28, header.body_length, header.version, _DICTIONARY_BATCH, 0),
        *(10, 24, 8, 4, 16),  # DictionaryBatch: id, data, is delta
        *(16, _INNER + data.position - 68, dictionary_id, is_delta, 0),
    )
    return frame_metadata(wrapper + bytes(flatbuffer))
