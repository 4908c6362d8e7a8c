"""`inspect_bytes`: what a file of Arrow IPC data looks like inside, as a value.

The report never fails on the bytes: what is wrong with them stands in it. Metadata is read, bodies
are not, except for the claimed sizes of compressed buffers, and all of them with ``verify``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import IO, Final, Literal, cast

import pyarrow as pa

from fletching.errors import WireError
from fletching.ipc.batches import BatchDecoder
from fletching.ipc.compressed_sizes import claimed_sizes
from fletching.ipc.file_writer import Block
from fletching.ipc.footer import Footer, read_footer
from fletching.ipc.layout import BatchLayout
from fletching.ipc.limits import DEFAULT_LIMITS, Limits
from fletching.ipc.listed_messages import ListedMessages, check_not_replaced, is_consistent
from fletching.ipc.message import MAGIC, Message, as_view, message_at, read_prefix
from fletching.ipc.metadata import MessageType, RecordBatchHeader, read_message_header
from fletching.ipc.part_search import find_part, offsets_of
from fletching.ipc.recognition import HEAD_BYTES, looks_like
from fletching.ipc.reports import (
    BufferReport,
    ColumnReport,
    Inspection,
    MessageReport,
    PartReport,
    Problem,
)
from fletching.ipc.schema_header import Endianness, SchemaHeader, read_schema, schema_header
from fletching.ipc.source import Input, MappedSource, open_input
from fletching.ipc.validation import validate
from fletching.ipc.walking import marker_length, stream_start

__all__ = ["inspect_bytes"]

_WINDOW_BYTES: Final = 1 << 20
_MAX_ALIGNMENT: Final = 64
_MAX_PARTS: Final = 1000


def inspect_bytes(
    source: Input, *, verify: bool = False, limits: Limits = DEFAULT_LIMITS
) -> Inspection:
    """Finds the streams and files in the data and reports on every message; never raises on the bytes.

    Args:
        source: any contiguous buffer, a path (mapped into memory), or an open binary file, which is
            read to its end.
        verify: also decode and validate all batches, and compare the footer with the messages.
        limits: what the input may claim; more is reported as an error.
    """
    data = open_input(source)
    view = data if isinstance(data, memoryview) else as_view(cast("IO[bytes]", data).read())
    problems: list[Problem] = []
    parts: list[PartReport] = []
    other: list[tuple[int, int]] = []
    position = 0
    while position < len(view) and len(parts) < _MAX_PARTS:
        start = find_part(view, position, limits)
        if start is None:
            break
        if start > position:
            other.append((position, start))
        part = _Part(view, start, verify=verify, limits=limits, problems=problems).report()
        parts.append(part)
        position = max(part.end, start + 1)
    if position < len(view):
        other.append((position, len(view)))
    _report_other(view, parts, other, problems)
    problems.sort(key=lambda problem: problem.offset)
    return Inspection(len(view), tuple(parts), tuple(other), tuple(problems), verify)


def _report_other(
    view: memoryview,
    parts: list[PartReport],
    other: list[tuple[int, int]],
    problems: list[Problem],
) -> None:
    if not parts:
        what = "no Arrow IPC stream or file was found" if len(view) else "there are no bytes"
        name = looks_like(bytes(view[:HEAD_BYTES]))
        if name is not None:
            what += f": this looks like {name}"
        problems.append(Problem(0, "error", what))
        return
    for start, end in other:
        where = "before" if start < parts[0].start else "behind"
        problems.append(
            Problem(
                start, "warning", f"{end - start} bytes {where} the Arrow data belong to none of it"
            )
        )


class _Part:
    """Walks one stream or file and collects its report."""

    def __init__(
        self,
        view: memoryview,
        start: int,
        *,
        verify: bool,
        limits: Limits,
        problems: list[Problem],
    ) -> None:
        self._view = view
        self._start = start
        self._verify = verify
        self._limits = limits
        self._problems = problems
        self._is_file = bytes(view[start : start + 8]) == MAGIC + b"\0\0"
        self._footer: Footer | None = None
        self._footer_span: tuple[int, int] | None = None
        self._header: SchemaHeader | None = None
        self._schema: pa.Schema | None = None
        self._decoder: BatchDecoder | None = None
        self._layouts: dict[int, BatchLayout] = {}
        self._messages: list[MessageReport] = []
        self._known: set[int] = set()

    def _problem(
        self, offset: int, text: str, severity: Literal["error", "warning"] = "error"
    ) -> None:
        self._problems.append(Problem(offset, severity, text))

    def report(self) -> PartReport:
        limit = len(self._view)
        if self._is_file:
            self._find_footer()
            if self._footer_span is not None:
                limit = self._footer_span[0]
        marker: tuple[int, int] | None
        if self._footer is not None and is_consistent(self._footer):
            position, marker = self._walk_listed(self._footer)
        elif self._is_file:
            schema, start = stream_start(self._view, self._start, limit, self._limits)
            if schema is not None:
                self._messages.append(self._message(schema))
            position, marker = self._walk(start, limit)
            self._compare_footer(position if marker is None else marker[0])
        else:
            position, marker = self._walk(self._start, limit)
        end = position if self._footer_span is None else sum(self._footer_span)
        return PartReport(
            "file" if self._is_file else "stream",
            self._start,
            end,
            "big" if self._header and self._header.endianness is Endianness.BIG else "little",
            ()
            if self._schema is None
            else tuple((field.name, str(field.type)) for field in self._schema),
            tuple(self._messages),
            marker,
            self._footer_span,
            {} if self._footer is None else self._footer.custom_metadata,
        )

    # --- the footer --------------------------------------------------------------------------------

    def _find_footer(self) -> None:
        """Looks for the footer at the end of the input, then for the next closing magic."""
        source = MappedSource(self._view)
        first: WireError | None = None
        for end in self._footer_ends():
            try:
                footer = read_footer(source, self._start, end - self._start, self._limits)
            except WireError as error:
                first = first or error
                continue
            self._footer = footer
            start = self._start + footer.start
            self._footer_span = start, end - start
            return
        if first is not None:
            self._problem(first.offset or self._start, f"no usable footer: {first.message}")

    def _footer_ends(self) -> Iterator[int]:
        yield len(self._view)
        for found_at in offsets_of(self._view, (MAGIC,), self._start + 8):
            yield found_at + len(MAGIC)

    def _compare_footer(self, messages_end: int) -> None:
        footer = self._footer
        if footer is None:
            return
        start = self._start
        listed = {block.offset + start: block for block in (*footer.dictionaries, *footer.batches)}
        result = {
            m.offset: m
            for m in self._messages
            if m.type in (MessageType.RECORD_BATCH.label, MessageType.DICTIONARY_BATCH.label)
        }
        for offset, message in result.items():
            block = listed.get(offset)
            if block is None:
                self._problem(offset, "a message that the footer does not list", "warning")
            elif tuple(block)[1:] != (message.metadata_length, message.body_length):
                self._problem(offset, "the footer gives this message other lengths")
        for offset in listed.keys() - result.keys():
            self._problem(
                offset,
                "the footer lists a message here, walking finds none",
                "error" if offset < messages_end else "warning",
            )
        if self._header is not None and self._header != footer.schema:
            self._problem(
                start + footer.start, "footer and schema message give different schemas", "warning"
            )

    # --- the messages ------------------------------------------------------------------------------

    def _walk_listed(self, footer: Footer) -> tuple[int, tuple[int, int] | None]:
        """The messages that a footer lists, and what lies between them; returns as `_walk` does."""
        listed = ListedMessages(MappedSource(self._view), self._start, footer, self._limits)
        end = self._start + footer.start
        schema = listed.schema_message()
        bare = None
        if not listed.schema_in_file:
            bare, _ = stream_start(self._view, self._start, end, self._limits)
        report = self._message(schema)
        if listed.schema_in_file:
            self._messages.append(report)
        elif bare is not None:
            self._messages.append(
                dataclasses.replace(
                    report,
                    offset=bare.offset,
                    prefix_length=bare.prefix_length,
                    metadata_length=bare.metadata_length,
                )
            )
        for block in footer.dictionaries:
            self._listed_message(listed, block, MessageType.DICTIONARY_BATCH)
        for block in footer.batches:
            self._listed_message(listed, block, MessageType.RECORD_BATCH)
        # In the order of their places, as they are found by walking.
        self._messages.sort(key=lambda message: message.offset)
        spans = [(m.offset, m.end) for m in self._messages]
        spans += [
            (self._start + block.offset, self._start + block.end)
            for block in (*footer.dictionaries, *footer.batches)
        ]
        last = max((stop for _, stop in spans), default=self._start + 8)
        length = marker_length(self._view, last, end)
        if length:
            spans.append((last, last + length))
        self._between(sorted(spans), end)
        return end, (last, length) if length else None

    def _listed_message(self, listed: ListedMessages, block: Block, kind: MessageType) -> None:
        found_at = self._start + block.offset
        try:
            message = listed.message(block, kind)
        except WireError as error:
            text = f"the footer lists a message here, reading finds none: {error.message}"
            self._problem(found_at, text)
            return
        if self._may_stand(message):
            self._messages.append(self._message(message))

    def _may_stand(self, message: Message) -> bool:
        """Whether a file may hold this message; a dictionary that replaces another may not be there."""
        if self._is_file and message.type is MessageType.DICTIONARY_BATCH:
            try:
                check_not_replaced(message, self._known, self._limits)
            except WireError as error:
                self._problem(message.offset, error.message)
                return False
        return True

    def _between(self, spans: list[tuple[int, int]], end: int) -> None:
        """Says what lies in a file beside the messages that its footer lists."""
        position = self._start + 8
        for start, stop in [*spans, (end, end)]:
            gap = self._view[position:start]
            # Writers pad with zeros; windows keep the copies small.
            if any(
                bytes(gap[window : window + _WINDOW_BYTES]).strip(b"\0")
                for window in range(0, len(gap), _WINDOW_BYTES)
            ):
                self._unlisted(position, start)
            position = max(position, stop)

    def _unlisted(self, position: int, end: int) -> None:
        while position < end:
            try:
                result = message_at(self._view, position, end, self._limits)
            except WireError:
                break
            if isinstance(result, int):
                position += result
                continue
            text = "a message that the footer does not list"
            if result.type is MessageType.SCHEMA:
                text = "footer and schema message give different schemas"
            self._problem(position, text, "warning")
            position = result.end
        if position < end:
            self._problem(
                position, f"{end - position} bytes that the footer does not list", "warning"
            )

    def _walk(self, position: int, limit: int) -> tuple[int, tuple[int, int] | None]:
        """All messages up to a limit; returns where they end and the end-of-stream marker."""
        while position < limit:
            try:
                result = message_at(self._view, position, limit, self._limits)
            except WireError as error:
                self._problem(position, error.message)
                self._partial(position, limit)
                return (limit if self._is_cut(position, limit) else position), None
            if isinstance(result, int):
                return position + result, (position, result)
            if self._may_stand(result):
                self._messages.append(self._message(result))
            position = result.end
        self._problem(
            position,
            "the end-of-stream marker is missing: a cut at this place could not be told from the end",
            "warning",
        )
        return position, None

    def _is_cut(self, position: int, limit: int) -> bool:
        """Whether what stands here is a message whose end is missing, rather than other bytes."""
        try:
            prefix, length = read_prefix(self._view, position, limit, self._limits)
            start = position + prefix
            if start + length > limit:
                return prefix == 8
            read_message_header(self._view[start : start + length])
        except WireError:
            return False
        return True

    def _partial(self, position: int, limit: int) -> None:
        """Says what the cut message would have been, if its metadata is whole."""
        try:
            prefix, length = read_prefix(self._view, position, limit, self._limits)
            start = position + prefix
            header = read_message_header(self._view[start : min(limit, start + length)])
        except WireError:
            return
        missing = start + length + header.body_length - limit
        if missing > 0:
            self._problem(position, f"a {header.type.label} lacks its last {missing} bytes")

    def _message(self, message: Message) -> MessageReport:
        report = MessageReport(
            message.offset,
            message.type.label,
            message.version.name,
            message.prefix_length,
            message.metadata_length,
            message.body_length,
        )
        try:
            if message.type is MessageType.SCHEMA:
                return self._schema_message(message, report)
            if message.type in (MessageType.RECORD_BATCH, MessageType.DICTIONARY_BATCH):
                report = self._batch(message, report)
                return self._verified(message, report) if self._verify else report
        except WireError as error:
            self._problem(message.offset, error.message)
            return dataclasses.replace(report, verified=False if self._verify else None)
        return report

    def _schema_message(self, message: Message, report: MessageReport) -> MessageReport:
        if self._header is not None:
            self._problem(message.offset, "a second schema message")
            return report
        self._header = schema_header(message, self._limits)
        if self._header.endianness is Endianness.BIG:
            self._problem(message.offset, "values are big-endian: reading copies them", "warning")
        self._schema = read_schema(message, self._limits)
        self._decoder = BatchDecoder(message, limits=self._limits)
        return report

    def _batch(self, message: Message, report: MessageReport) -> MessageReport:
        header = message.record_batch(self._limits)
        if message.type is MessageType.DICTIONARY_BATCH:
            dictionary = message.dictionary_batch(self._limits)
            report = dataclasses.replace(
                report, dictionary_id=dictionary.id, is_delta=dictionary.is_delta
            )
        report = dataclasses.replace(report, rows=header.length, codec=header.compression)
        columns = self._columns_of(message, report.dictionary_id)
        if columns is None:
            return report
        layout = BatchLayout([data_type for _, data_type in columns], message.version)
        layout.check(header, message.body_length, self._limits)
        buffers = _buffers(message, header, self._limits)
        stored = sum(buffer.length for buffer in buffers)
        alignment = _MAX_ALIGNMENT
        for buffer in buffers:
            if buffer.length:
                alignment = min(alignment, buffer.offset & -buffer.offset or _MAX_ALIGNMENT)
        little = self._header is not None and self._header.endianness is Endianness.LITTLE
        return dataclasses.replace(
            report,
            padding=message.body_length - stored,
            alignment=alignment,
            zero_copy=header.compression is None and little and alignment >= 8,
            columns=tuple(_columns(columns, layout, header, buffers)),
        )

    def _columns_of(
        self, message: Message, dictionary_id: int | None
    ) -> list[tuple[str, pa.DataType]] | None:
        if self._schema is None or self._decoder is None:
            self._problem(message.offset, "a batch before the schema")
            return None
        if dictionary_id is None:
            return [(field.name, field.type) for field in self._schema]
        value_type = self._decoder.value_type(dictionary_id)
        return None if value_type is None else [("values", value_type)]

    def _verified(self, message: Message, report: MessageReport) -> MessageReport:
        if self._decoder is None:
            return dataclasses.replace(report, verified=False)
        batch = self._decoder.decode(message)
        if batch is not None:
            try:
                validate(batch, values=True)
            except WireError as error:
                # Readable, but not what the type allows; old writers made such files.
                self._problem(message.offset, error.message, "warning")
        return dataclasses.replace(report, verified=True)


def _buffers(message: Message, header: RecordBatchHeader, limits: Limits) -> list[BufferReport]:
    body = message.offset + message.metadata_length
    sizes = (
        header.buffers[:, 1]
        if header.compression is None
        else claimed_sizes(header, message.body, limits)
    )
    return [
        BufferReport(body + start, length, size)
        for (start, length), size in zip(header.buffers.tolist(), sizes.tolist(), strict=True)
    ]


def _columns(
    columns: list[tuple[str, pa.DataType]],
    layout: BatchLayout,
    header: RecordBatchHeader,
    buffers: list[BufferReport],
) -> Iterator[ColumnReport]:
    nulls = header.nodes[:, 1].tolist()
    for (name, data_type), span in zip(columns, layout.spans(header), strict=True):
        own = tuple(buffers[span.buffer_start : span.buffer_end])
        yield ColumnReport(
            name,
            str(data_type),
            nulls[span.node_start],
            sum(buffer.length for buffer in own),
            sum(buffer.uncompressed for buffer in own),
            own,
        )
