"""`recover`: a footer for an Arrow IPC file whose writer died, or that was cut."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any, Final

import pyarrow as pa

from fletching.errors import FletchingError, MalformedFrameError, TruncatedStreamError, WireError
from fletching.ipc.batches import BatchDecoder
from fletching.ipc.file_writer import Block, Sink, encode_footer
from fletching.ipc.footer import Footer, read_footer
from fletching.ipc.limits import DEFAULT_LIMITS, Limits
from fletching.ipc.message import END_OF_STREAM, MAGIC, Message, message_at
from fletching.ipc.metadata import MessageType
from fletching.ipc.schema_header import read_schema, schema_header
from fletching.ipc.source import Source, open_source

__all__ = ["Recovery", "recover"]

_COPY_BYTES: Final = 4 << 20
"""How much is copied to the sink at a time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Recovery:
    """What was found in a file without a footer, and how to make it whole.

    The repaired file is the first ``keep`` bytes of the damaged one, then ``tail``. To repair in
    place, cut the file to ``keep`` bytes and append ``tail``.

    Attributes:
        schema: the file's schema.
        intact: the file has a valid footer: nothing is to be done, ``tail`` is empty.
        keep: bytes of the damaged file to keep.
        tail: end-of-stream marker, footer and magic to append.
        rows: rows in the record batches kept.
        batches: where they stand.
        dictionaries: where the dictionary batches kept stand.
        lost_bytes: bytes behind ``keep`` that hold no usable message.
        reason: why reading stopped there, in words.
    """

    schema: pa.Schema
    intact: bool
    keep: int
    tail: bytes
    rows: int
    batches: tuple[Block, ...]
    dictionaries: tuple[Block, ...]
    lost_bytes: int
    reason: str

    @property
    def summary(self) -> str:
        """One sentence on what was kept and what was lost."""
        if self.intact:
            return f"the file is whole: {len(self.batches)} record batches, {self.rows} rows"
        lost = f"{self.lost_bytes} bytes were lost" if self.lost_bytes else "no message was lost"
        return (
            f"kept {len(self.batches)} record batches, {self.rows} rows,"
            f" {self.keep} bytes; {lost}: {self.reason}"
        )


def recover(
    source: Any,
    sink: Sink | None = None,
    *,
    verify: bool = True,
    limits: Limits = DEFAULT_LIMITS,
) -> Recovery:
    """Finds all whole messages of a damaged file, and makes the footer that it lacks.

    Reads messages in order until one is cut or broken; batches behind that place cannot be found,
    since nothing says where they start. The source is never changed.

    Args:
        source: the file: a path, a buffer or a seekable binary file.
        sink: if given, the repaired file is written to it (a copy of the kept bytes).
        verify: decode and validate each batch, and stop at the first that is broken. Without it
            only metadata is read.
        limits: what the file may claim.

    Raises:
        MalformedFrameError: it does not start like an Arrow file.
        TruncatedStreamError: not even the schema is whole: nothing can be recovered.
        WireError: any of its other children, if the schema is broken.
    """
    opened = open_source(source)
    if opened.length < 8 or bytes(opened.view(0, len(MAGIC))) != MAGIC:
        raise MalformedFrameError(
            "the file does not start with ARROW1", layer="file", offset=0, expected="ARROW1"
        )
    walk = _Walk(opened, verify=verify, limits=limits)
    footer_found = _find_footer(opened, limits)
    if footer_found is not None:
        walk.end = footer_found.start
    walk.run()
    keep = walk.position
    intact = footer_found is not None and walk.finished and walk.agrees(footer_found)
    if intact:
        tail, lost = b"", 0
        keep = opened.length
    else:
        footer = encode_footer(walk.schema.metadata, walk.dictionaries, walk.batches)
        tail = END_OF_STREAM + footer + struct.pack("<i", len(footer)) + MAGIC
        lost = opened.length - keep - (walk.marker_length if walk.finished else 0)
    recovery = Recovery(
        read_schema(walk.schema, limits),
        intact,
        keep,
        tail,
        walk.rows,
        tuple(walk.batches),
        tuple(walk.dictionaries),
        0 if intact else lost,
        "" if intact else walk.reason,
    )
    if sink is not None:
        for start in range(0, keep, _COPY_BYTES):
            sink.write(opened.view(start, min(keep, start + _COPY_BYTES)))
        sink.write(tail)
    return recovery


def _find_footer(source: Source, limits: Limits) -> Footer | None:
    try:
        return read_footer(source, 0, source.length, limits)
    except FletchingError:
        return None  # its absence is what this module is for


class _Walk:
    """Reads message after message and remembers how far all was well."""

    def __init__(self, source: Source, *, verify: bool, limits: Limits) -> None:
        self._source = source
        self._verify = verify
        self._limits = limits
        self.end = source.length
        self.position = 8
        self.batches: list[Block] = []
        self.dictionaries: list[Block] = []
        self.rows = 0
        self.finished = False  # came to the end-of-stream marker
        self.marker_length = 0
        self.reason = "the file ends after a whole message, without footer"
        schema = self._next()
        if not isinstance(schema, Message):
            raise TruncatedStreamError("the file has no schema message", layer="file", offset=8)
        self.schema = schema
        self._decoder = BatchDecoder(schema, limits=limits)
        self.position = schema.end

    def _next(self) -> Message | int:
        start = self.position
        if self._source.mapped:
            return message_at(self._source.view(0, self.end), start, self.end, self._limits)
        return _read_message_at(self._source, start, self.end, self._limits)

    def run(self) -> None:
        while self.position < self.end:
            try:
                found = self._next()
                if isinstance(found, int):
                    self.finished, self.marker_length = True, found
                    self.reason = "the end-of-stream marker is there, the footer is not"
                    return
                self._take(found)
            except WireError as error:
                self.reason = str(error)
                return
        self.finished = self.position == self.end

    def agrees(self, footer: Footer) -> bool:
        """Whether the footer lists what was found, and the same schema."""
        if footer.schema == schema_header(self.schema, self._limits) and (
            (sorted(footer.batches), sorted(footer.dictionaries))
            == (self.batches, self.dictionaries)
        ):
            return True
        self.reason = "the footer does not list the messages that are there"
        return False

    def _take(self, message: Message) -> None:
        if message.metadata_length % 8 or message.body_length % 8:
            raise MalformedFrameError(
                "a message is not padded to 8 bytes", layer="message", offset=message.offset
            )
        block = Block(message.offset, message.metadata_length, message.body_length)
        if self._verify or message.type is MessageType.DICTIONARY_BATCH:
            self._decoder.decode(message)
        if message.type is MessageType.RECORD_BATCH:
            self.rows += message.record_batch(self._limits).length
            self.batches.append(block)
        elif message.type is MessageType.DICTIONARY_BATCH:
            self.dictionaries.append(block)
        else:
            raise MalformedFrameError(
                "a file holds dictionary and record batches",
                layer="message",
                offset=message.offset,
                actual=message.type.label,
            )
        self.position = message.end


def _read_message_at(source: Source, start: int, end: int, limits: Limits) -> Message | int:
    """A message of a source that is read in ranges: prefix, metadata and body, one read each."""
    from fletching.ipc.decoder import MessageDecoder

    decoder = MessageDecoder(limits)
    position = start
    while True:
        for message in decoder:
            message.offset = start
            return message
        if decoder.ended:
            return decoder.marker_length
        wanted = min(decoder.bytes_needed, end - position)
        if not wanted:
            decoder.finish(require_marker=True)
        decoder.feed(source.view(position, position + wanted))
        position += wanted
