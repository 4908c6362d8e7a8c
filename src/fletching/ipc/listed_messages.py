"""Messages at the places that a file's footer gives.

The footer of a file decides what is in it: which messages, in which order, under which schema. Some
writers leave a whole stream between magic and footer, others do not: arrow-rs pads the magic to 64
bytes, polars writes the schema message without its length prefix, JavaScript leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fletching.errors import InvalidDataError, LimitExceededError, MalformedFrameError, WireError
from fletching.ipc.file_writer import Block
from fletching.ipc.footer import Footer, read_footer
from fletching.ipc.limits import DEFAULT_LIMITS, Limits
from fletching.ipc.message import Message, message_at, read_prefix, relocated
from fletching.ipc.metadata import MessageHeader, MessageType, read_message_header
from fletching.ipc.schema_header import read_schema, schema_header
from fletching.ipc.source import Source

__all__ = ["ListedMessages", "check_not_replaced", "find_footer", "is_consistent"]

_TOGETHER: Final = 8
"""From so many batches on, their metadata is looked at together."""


def find_footer(source: Source, offset: int, length: int, limits: Limits) -> Footer | None:
    """The footer of the file in ``length`` bytes at ``offset``, if it can be relied on.

    None if there is none, if it is damaged, or if messages that it lists overlap each other, which
    no writer makes.
    """
    try:
        footer = read_footer(source, offset, length, limits)
    except WireError:
        return None
    return footer if is_consistent(footer) else None


def is_consistent(footer: Footer) -> bool:
    """Whether no two messages that a footer lists overlap."""
    blocks = np.concatenate([footer.dictionaries.table, footer.batches.table])
    blocks = blocks[np.argsort(blocks[:, 0], kind="stable")]
    ends = blocks.sum(axis=1)
    return not bool((blocks[1:, 0] < ends[:-1]).any())


def check_not_replaced(message: Message, known: set[int], limits: Limits) -> None:
    """Refuses a second dictionary for an id: in a file nothing says which batches have which.

    Args:
        message: a dictionary batch message, the next in the footer's order.
        known: the ids that had a dictionary before; this message's is added.
        limits: what the message may claim.

    Raises:
        InvalidDataError: a dictionary that neither is the first for its id nor adds to it.
    """
    dictionary = message.dictionary_batch(limits)
    if dictionary.id in known and not dictionary.is_delta:
        raise InvalidDataError(
            f"dictionary {dictionary.id} is replaced: files allow additions (deltas) only",
            layer="dictionary",
            offset=message.offset,
        )
    known.add(dictionary.id)


class ListedMessages:
    """Reads the messages of one file through its footer.

    Attributes:
        footer: the footer.
        offset: where the file starts in the source; messages' offsets count from the source's start.
        schema_in_file: whether the file has a schema message that says what the footer says.
    """

    def __init__(
        self, source: Source, offset: int, footer: Footer, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self.source = source
        self._limits = limits
        self.offset = offset
        self.footer = footer
        self.schema_in_file = False

    @property
    def footer_schema(self) -> Message:
        """The footer's schema as a schema message; its offset is the footer's."""
        metadata = memoryview(self.footer.schema_metadata)
        return Message(metadata, memoryview(b""), offset=self.offset + self.footer.start)

    def schema_message(self) -> Message:
        """The file's schema message if it says what the footer says, else one made of the footer."""
        start = self.offset + 8
        end = self.offset + self.footer.start
        try:
            # The magic is padded to 8 bytes, by some writers to 64.
            head = bytes(self.source.view(start, min(end, self.offset + 64 + 8)))
            start += (len(head) - len(head.lstrip(b"\0"))) & ~7
            head = bytes(self.source.view(start, min(end, start + 8)))
            prefix, length = read_prefix(memoryview(head), 0, len(head), self._limits)
            stop = min(end, start + prefix + length)
            result = message_at(self.source.view(start, stop), 0, stop - start, self._limits)
            if isinstance(result, Message) and self._is_footer_schema(result):
                result.offset = start
                self.schema_in_file = True
                return result
        except WireError:
            pass  # the footer has all that is needed
        return self.footer_schema

    def _is_footer_schema(self, candidate: Message) -> bool:
        header, footer = schema_header(candidate, self._limits), self.footer.schema
        # Versions may differ: old footers have none.
        return (header.fields, header.endianness, header.pairs) == (
            footer.fields,
            footer.endianness,
            footer.pairs,
        ) and read_schema(candidate, self._limits).equals(
            read_schema(self.footer_schema, self._limits), check_metadata=True
        )

    def metadata(self, block: Block) -> tuple[int, memoryview]:
        """Prefix length and metadata of a message.

        Raises:
            MalformedFrameError: footer and message disagree about the metadata's length.
            LimitExceededError: more than ``limits.max_metadata_bytes``.
        """
        start = self.offset + block.offset
        if block.metadata_length > self._limits.max_metadata_bytes:
            raise LimitExceededError(
                "a message's metadata is too long",
                layer="footer",
                offset=start,
                actual=block.metadata_length,
                limit=self._limits.max_metadata_bytes,
            )
        view = self.source.view(start, start + block.metadata_length)
        try:
            prefix, length = read_prefix(view, 0, len(view), self._limits)
        except WireError as error:
            raise relocated(error, start) from None
        if prefix + length != block.metadata_length:
            raise MalformedFrameError(
                "footer and message disagree about the metadata's length",
                layer="footer",
                offset=start,
                expected=block.metadata_length,
                actual=prefix + length,
            )
        return prefix, view[prefix:]

    def header(self, block: Block) -> MessageHeader:
        """The header of a message; errors as for `message`."""
        return self.parsed(block, self.metadata(block)[1])

    def row_counts(self, start: int, end: int) -> list[int]:
        """Rows of the record batches number ``start`` to ``end``; errors as for `message`.

        Of a mapped source the metadata of batches that differ in numbers alone is looked at together.
        """
        blocks = self.footer.batches
        if self.source.mapped and end - start >= _TOGETHER:
            result = self._row_counts_together(blocks.table[start:end])
            if result is not None:
                return result
        counts = []
        for block in blocks[start:end]:
            prefix, metadata = self.metadata(block)
            header = self.parsed(block, metadata)
            try:
                counts.append(header.record_batch(self._limits).length)
            except WireError as error:
                raise relocated(error, self.offset + block.offset + prefix) from None
        return counts

    def _row_counts_together(self, blocks: NDArray[np.int64]) -> list[int] | None:
        """Rows of several batches, or None if one is not like the first."""
        length = int(blocks[0, 1])
        if (blocks[:, 1] != length).any() or length > self._limits.max_metadata_bytes:
            return None
        first = Block(*blocks[0].tolist())
        header = self.header(first)
        start = self.offset + first.offset
        positions = [header.message.int64_position(3), header.table.int64_position(0)]
        if header.type is not MessageType.RECORD_BATCH or 0 in positions:
            return None
        header.record_batch(self._limits)
        lengths = []
        constant = np.ones(length, bool)
        whole = np.frombuffer(self.source.view(0, self.source.length), np.uint8)
        rows = sliding_window_view(whole, length)[self.offset + blocks[:, 0]]
        prefix, _ = self.metadata(first)
        for position in positions:
            constant[prefix + position : prefix + position + 8] = False
            numbers = np.ascontiguousarray(rows[:, prefix + position : prefix + position + 8])
            lengths.append(numbers.view("<i8")[:, 0])
        # Nodes and buffers are looked at when the batch is read.
        for slot in (1, 2):
            vector, count = header.table.vector(slot, 16)
            constant[prefix + vector : prefix + vector + 16 * count] = False
        differ = (rows ^ whole[start : start + length]) & np.where(constant, 0xFF, 0).astype(
            np.uint8
        )
        bodies, counts = lengths
        if differ.any() or (bodies != blocks[:, 2]).any():
            return None
        if counts.min() < 0 or counts.max() > self._limits.max_rows:
            return None
        result: list[int] = counts.tolist()
        return result

    def parsed(self, block: Block, metadata: memoryview) -> MessageHeader:
        """The header in a message's metadata, compared with its block."""
        start = self.offset + block.offset
        try:
            header = read_message_header(metadata)
        except WireError as error:
            raise relocated(error, start) from None
        if header.body_length != block.body_length:
            raise MalformedFrameError(
                "footer and message disagree about the body's length",
                layer="footer",
                offset=start,
                expected=block.body_length,
                actual=header.body_length,
            )
        return header

    def check_body_length(self, block: Block) -> None:
        """Refuses a body above ``limits.max_body_bytes`` that would have to be held in memory."""
        if not self.source.mapped and block.body_length > self._limits.max_body_bytes:
            raise LimitExceededError(
                "a message's body is too long to be read",
                layer="message",
                offset=self.offset + block.offset,
                actual=block.body_length,
                limit=self._limits.max_body_bytes,
            )

    def message(self, block: Block, kind: MessageType | None = None) -> Message:
        """The message of a block, whole.

        Args:
            block: one of the footer's.
            kind: what type of message the footer says it is.

        Raises:
            MalformedFrameError: no message, one of another type, or one with other lengths.
            LimitExceededError: metadata or body above their limits.
            TruncatedStreamError: the source became shorter.
        """
        prefix, metadata = self.metadata(block)
        header = self.parsed(block, metadata)
        start = self.offset + block.offset
        if kind is not None and header.type is not kind:
            raise MalformedFrameError(
                f"the footer lists another message as a {kind.label}",
                layer="footer",
                offset=start,
                expected=kind.label,
                actual=header.type.label,
            )
        self.check_body_length(block)
        body = start + block.metadata_length
        return Message(
            metadata,
            self.source.view(body, body + block.body_length),
            offset=start,
            prefix_length=prefix,
            header=header,
        )

    def __iter__(self) -> Iterator[Message]:
        """Schema, dictionaries, batches: a stream's order, in which each can be read in its turn."""
        yield self.schema_message()
        for block in self.footer.dictionaries:
            yield self.message(block, MessageType.DICTIONARY_BATCH)
        for block in self.footer.batches:
            yield self.message(block, MessageType.RECORD_BATCH)
