"""Files in the shapes that other writers give them: what lies between magic and footer differs."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import pyarrow as pa
from tests.ipc.conftest import messages_of, stream_of

from fletching.ipc.file_writer import Block, encode_footer
from fletching.ipc.message import END_OF_STREAM, MAGIC

SHAPES = ["pyarrow", "arrow-rs", "polars", "arrow-js", "nanoarrow", "old"]


def shaped(
    shape: str,
    batches: Sequence[pa.RecordBatch],
    *,
    metadata: Mapping[bytes, bytes] | None = None,
    left_out: Sequence[int] = (),
) -> bytes:
    """A file of these batches as a writer of that kind makes it.

    Args:
        shape: one of `SHAPES`.
        batches: at least one.
        metadata: key-value pairs of the footer.
        left_out: numbers of batches that are in the file and not in its footer.
    """
    old = shape == "old"
    options = {"use_legacy_format": old}
    if old:
        options["metadata_version"] = pa.ipc.MetadataVersion.V4
    schema, *rest = messages_of(stream_of(batches, **options))
    data = bytearray(MAGIC.ljust(64 if shape == "arrow-rs" else 8, b"\0"))
    if shape == "polars":
        data += schema.metadata  # without a length prefix
    elif shape != "arrow-js":
        data += b"".join(bytes(chunk) for chunk in schema.frame())
    dictionaries: list[Block] = []
    blocks: list[Block] = []
    for message in rest:
        block = Block(len(data), message.metadata_length, message.body_length)
        data += b"".join(bytes(chunk) for chunk in message.frame())
        (blocks if message.type.label == "record batch" else dictionaries).append(block)
    data += b"" if shape == "nanoarrow" else bytes(4) if old else END_OF_STREAM
    kept = [block for index, block in enumerate(blocks) if index not in left_out]
    footer = bytearray(encode_footer(schema.metadata, dictionaries, kept, metadata))
    if old:
        struct.pack_into("<H", footer, 12, 0)  # the version's place in the footer: it has none
    return bytes(data) + bytes(footer) + struct.pack("<i", len(footer)) + MAGIC
