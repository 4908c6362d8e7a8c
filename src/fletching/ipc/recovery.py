"""`recover`: a footer for an Arrow IPC file whose writer died, or that was cut or damaged."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import PurePath
from typing import Final

import pyarrow as pa

from fletching.errors import MalformedFrameError, TruncatedStreamError, WireError
from fletching.ipc.batches import BatchDecoder
from fletching.ipc.decoder import MessageDecoder
from fletching.ipc.file_writer import Block, Sink, encode_footer
from fletching.ipc.footer import Footer, not_a_file, read_footer
from fletching.ipc.limits import DEFAULT_LIMITS, Limits
from fletching.ipc.listed_messages import ListedMessages, check_not_replaced, is_consistent
from fletching.ipc.message import END_OF_STREAM, MAGIC, Message, message_at
from fletching.ipc.metadata import MessageType
from fletching.ipc.recognition import HEAD_BYTES
from fletching.ipc.schema_header import read_schema
from fletching.ipc.source import Input, Source, open_sink, open_source
from fletching.ipc.walking import stream_start

__all__ = ["Recovery", "recover"]

_COPY_BYTES: Final = 4 << 20
"""How much is copied to the sink at a time."""
_HEAD_READ_BYTES: Final = 1 << 20
"""How much of a file that is read is looked at for a schema message without length prefix."""


@dataclasses.dataclass(frozen=True, slots=True)
class Recovery:
    """What was found in a damaged file, and how to make it whole.

    The repaired file is the first ``keep`` bytes of the damaged one, then ``tail``. To repair in
    place, cut the file to ``keep`` bytes and append ``tail``.

    Attributes:
        schema: the file's schema.
        intact: the file has a valid footer, and what it lists can be read: nothing is to be done,
            ``tail`` is empty.
        keep: bytes of the damaged file to keep.
        tail: end-of-stream marker, footer and magic to append.
        rows: rows in the record batches kept.
        batches: where they stand.
        dictionaries: where the dictionary batches kept stand.
        lost_bytes: bytes of messages that the footer lists and that are not kept; without a valid
            footer, bytes behind ``keep`` that hold no usable message.
        reason: what is wrong with the first of them, in words.
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
    source: Input | Source,
    sink: Sink | str | PurePath | None = None,
    *,
    verify: bool = True,
    limits: Limits = DEFAULT_LIMITS,
) -> Recovery:
    """Finds all whole messages of a damaged file, and makes the footer that it lacks.

    If the file has a valid footer, that decides: the messages that it lists are looked at one by one,
    those that are broken are left out of the new footer, and its key-value pairs are kept. Without
    one, messages are read in order until one is cut or broken; batches behind that place cannot be
    found, since nothing says where they start. The source is never changed.

    Args:
        source: the file: a path, a buffer or a seekable binary file.
        sink: if given, the repaired file is written to it (a copy of the kept bytes): something with
            ``write(buffer)``, or a path other than the source's.
        verify: decode and validate each batch, to leave out or stop at those that are broken.
            Without it only metadata is read.
        limits: what the file may claim.

    Raises:
        MalformedFrameError: it does not start like an Arrow file.
        TruncatedStreamError: not even the schema is whole: nothing can be recovered.
        WireError: any of its other children, if the schema is broken.
    """
    opened = open_source(source)
    head = bytes(opened.view(0, min(opened.length, HEAD_BYTES)))
    if opened.length < 8 or not head.startswith(MAGIC):
        raise not_a_file(head, 0)
    footer = _footer(opened, limits)
    recovery = None
    if footer is not None and is_consistent(footer):
        recovery = _by_footer(opened, footer, verify=verify, limits=limits)
    if recovery is None:
        recovery = _by_walking(opened, footer, verify=verify, limits=limits)
    if sink is not None:
        with open_sink(sink) as file:
            for start in range(0, recovery.keep, _COPY_BYTES):
                file.write(opened.view(start, min(recovery.keep, start + _COPY_BYTES)))
            file.write(recovery.tail)
    return recovery


def _footer(source: Source, limits: Limits) -> Footer | None:
    try:
        return read_footer(source, 0, source.length, limits)
    except WireError:
        return None  # its absence is what this module is for


def _tail(
    schema: Message, dictionaries: list[Block], batches: list[Block], footer: Footer | None
) -> bytes:
    """End-of-stream marker, footer, its length and the magic."""
    flatbuffer = encode_footer(
        schema.metadata, dictionaries, batches, () if footer is None else footer.pairs
    )
    return END_OF_STREAM + flatbuffer + struct.pack("<i", len(flatbuffer)) + MAGIC


def _by_footer(source: Source, footer: Footer, *, verify: bool, limits: Limits) -> Recovery | None:
    """Keeps what a valid footer lists and can be read; None if nothing of what it lists can."""
    listed = ListedMessages(source, 0, footer, limits)
    schema = listed.footer_schema
    decoder = BatchDecoder(schema, limits=limits)
    known: set[int] = set()
    dictionaries: list[Block] = []
    batches: list[Block] = []
    lost: list[Block] = []
    rows = 0
    reason = ""
    # Batches behind a dictionary that cannot be used might mean that one: they go with it.
    safe_until = footer.start
    for block in footer.dictionaries:
        try:
            message = listed.message(block, MessageType.DICTIONARY_BATCH)
            check_not_replaced(message, known, limits)
            decoder.decode(message)
            dictionaries.append(block)
        except WireError as error:
            reason = reason or str(error)
            safe_until = min(safe_until, block.offset)
            lost.append(block)
    for block in footer.batches:
        try:
            message = listed.message(block, MessageType.RECORD_BATCH)
            header = message.record_batch(limits)
            if block.offset > safe_until:
                lost.append(block)
                continue
            if verify or lost:
                decoder.decode(message)
            batches.append(block)
            rows += header.length
        except WireError as error:
            reason = reason or str(error)
            lost.append(block)
    if lost and not batches:
        return None
    return Recovery(
        decoder.schema,
        not lost,
        source.length if not lost else footer.start,
        _tail(schema, dictionaries, batches, footer) if lost else b"",
        rows,
        tuple(batches),
        tuple(dictionaries),
        sum(block.end - block.offset for block in lost),
        reason,
    )


def _by_walking(source: Source, footer: Footer | None, *, verify: bool, limits: Limits) -> Recovery:
    """Keeps the messages that stand one behind the other from the start of the file.

    ``footer`` is one that does not list them: only its place and its key-value pairs are used.
    """
    end = source.length if footer is None else footer.start
    walk = _Walk(source, end, verify=verify, limits=limits)
    walk.run()
    if footer is not None and walk.finished:
        walk.reason = "the footer does not list the messages that are there"
    return Recovery(
        read_schema(walk.schema, limits),
        False,
        walk.position,
        _tail(walk.schema, walk.dictionaries, walk.batches, footer),
        walk.rows,
        tuple(walk.batches),
        tuple(walk.dictionaries),
        source.length - walk.position - (walk.marker_length if walk.finished else 0),
        walk.reason,
    )


class _Walk:
    """Reads message after message and remembers how far all was well."""

    def __init__(self, source: Source, end: int, *, verify: bool, limits: Limits) -> None:
        self._source = source
        self._verify = verify
        self._limits = limits
        self.end = end
        self.batches: list[Block] = []
        self.dictionaries: list[Block] = []
        self.rows = 0
        self.finished = False  # came to the end-of-stream marker
        self.marker_length = 0
        self.reason = "the file ends after a whole message, without footer"
        self._known: set[int] = set()
        head = source.view(0, end if source.mapped else min(end, _HEAD_READ_BYTES))
        schema, self.position = stream_start(head, 0, len(head), limits)
        if schema is None:
            result = self._next()
            if not isinstance(result, Message):
                raise TruncatedStreamError(
                    "the file has no schema message, and no footer that has its schema",
                    layer="file",
                    offset=self.position,
                )
            schema = result
            self.position = result.end
        self.schema = schema
        self._decoder = BatchDecoder(schema, limits=limits)

    def _next(self) -> Message | int:
        start = self.position
        if self._source.mapped:
            return message_at(self._source.view(0, self.end), start, self.end, self._limits)
        return _read_message_at(self._source, start, self.end, self._limits)

    def run(self) -> None:
        while self.position < self.end:
            try:
                result = self._next()
                if isinstance(result, int):
                    self.finished, self.marker_length = True, result
                    self.reason = "the end-of-stream marker is there, the footer is not"
                    return
                self._take(result)
            except WireError as error:
                self.reason = str(error)
                return
        self.finished = self.position == self.end

    def _take(self, message: Message) -> None:
        if message.metadata_length % 8 or message.body_length % 8:
            raise MalformedFrameError(
                "a message is not padded to 8 bytes", layer="message", offset=message.offset
            )
        block = Block(message.offset, message.metadata_length, message.body_length)
        if message.type is MessageType.DICTIONARY_BATCH:
            check_not_replaced(message, self._known, self._limits)
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
