"""Reads the table tunnel's record stream into Arrow columns; the layout is in `tunnel_layouts`.

A row says neither its length nor that of most of its values, so rows seem to have to be read one after
the other. But each ends with the same four bytes. The places where those stand divide what was received
into candidates, which are parsed all at once: each column in one step for all rows, every row at its
own position. The four bytes may also stand inside a value. Such a candidate does not parse, or is not
where the row before it ends; only there a row's end is looked for value by value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from crc32c import crc32c
from numpy.typing import NDArray
from typing_extensions import Buffer

from fletching.errors import (
    ChecksumMismatchError,
    InvalidDataError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    UsageError,
)
from fletching.wire.tunnel_columns import ColumnParser
from fletching.wire.tunnel_layouts import (
    END_OF_ROW,
    LAYER,
    MAX_FIELDS,
    ROW_COUNT,
    STREAM_CHECKSUM,
    RecordLayout,
    record_tag,
)
from fletching.wire.tunnel_records import row_checksums
from fletching.wire.tunnel_rows import SLACK
from fletching.wire.tunnel_scalars import IncompleteRowError, skip_value, take_varint

__all__ = ["RecordDecoder"]

DECODE_BYTES = 1 << 20
"""Received bytes that are parsed at a time: less repeats the set-up, more holds more in memory."""
MAX_ROW_BYTES = 128 << 20
"""A row longer than this is refused, so that a stream without ends of rows fills no memory."""
EXPANSION = 32
"""How many times their length rows may take when they are decoded; from `EXPANSION_FLOOR` on. A null
takes no byte, or one, in the stream, and its place in a column."""
EXPANSION_FLOOR = 16 << 20
EXPANSION_MOST = 1 << 30
"""What rows take at most, however long they are."""

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_END = b"\x80\xc0\xff\x7f"  # the tag of END_OF_ROW
_COUNT = b"\xf0\xff\xff\x7f"  # the tag of ROW_COUNT
_SUM = b"\xf8\xff\xff\x7f"  # the tag of STREAM_CHECKSUM
_LEAST_WINDOW = 64 << 10
_WHOLE = 1 << 62
_ROW_BYTES = 64  # what a row takes while it is found: its places, and some of its values' places
_EXTENDED = (1 << 64) - (1 << 31)
"""The least of the checksums at or above 2**31 when their sign is extended to 64 bits."""


class RecordDecoder:
    """Push parser: `feed` bytes, take `batches`, then `finish`.

    Whoever must know how much memory decoding takes asks for `need` and then for one part with `decode`;
    and for `kept`, which is held for longer.
    """

    def __init__(
        self,
        layouts: Sequence[RecordLayout],
        *,
        decode_bytes: int = DECODE_BYTES,
        max_row_bytes: int = MAX_ROW_BYTES,
        names: Sequence[str] = (),
    ) -> None:
        """Takes the columns' layouts, in their order on the wire.

        Args:
            layouts: of the columns; a field's number is its place, from 1 on.
            decode_bytes: parse when so much has come.
            max_row_bytes: refuse longer rows.
            names: of the columns, for errors; their numbers if there are none.

        Raises:
            UsageError: no column, or more than tags.
        """
        if not 1 <= len(layouts) <= MAX_FIELDS:
            raise UsageError(f"a record stream has 1 to {MAX_FIELDS} columns, not {len(layouts)}")
        self._layouts = tuple(layouts)
        self._names = [repr(name) for name in names] or [str(n + 1) for n in range(len(layouts))]
        self._decode_bytes = decode_bytes
        self._max_row_bytes = max_row_bytes
        self._received = bytearray()
        self._ready: list[list[pa.Array]] = []
        self._offset = 0  # of the first byte of _received in the stream
        self._rows = 0
        self._checksum = 0
        self._window = decode_bytes  # how much of it is looked at
        self._stuck = False  # what has come holds no whole row
        self._wanted = decode_bytes  # how much must be there before decoding is tried
        width = sum(each.width for each in self._layouts)
        self._max_rows = max(1, EXPANSION_FLOOR // (width + _ROW_BYTES))

    @property
    def rows(self) -> int:
        """Rows decoded so far."""
        return self._rows

    def feed(self, chunk: Buffer) -> None:
        """Takes bytes of the stream, and copies them: they are the caller's again afterwards.

        Only `batches` and `decode` make room: take what is ready before feeding more.
        """
        self._received += memoryview(chunk).cast("B")
        self._stuck = False

    @property
    def need(self) -> int:
        """Bytes of memory that `decode` may take now."""
        return _allowed(min(len(self._received), self._window))

    @property
    def kept(self) -> int:
        """Bytes of a long row that may come to be held before it is looked at again; 0 where no row is long."""
        return self._wanted if self._wanted > self._decode_bytes else 0

    def batches(self) -> Iterator[list[pa.Array]]:
        """The columns of rows that are complete, a list for each part that was parsed; see `decode`."""
        yield from self._ready
        self._ready = []
        while self.ready:
            arrays = self.decode()
            if arrays is not None:
                yield arrays

    @property
    def ready(self) -> bool:
        """Whether enough has come to be decoded."""
        return len(self._received) >= self._wanted

    def decode(self) -> list[pa.Array] | None:
        """Parses some of what has come: the columns of its rows, or None if it holds no whole one.

        Raises:
            WireError: the stream is malformed, damaged, or beyond a limit.
        """
        before, window = len(self._received), self._window
        arrays = self._decode(window)
        moved = len(self._received) < before
        if not moved and window < before:
            self._window = _WHOLE  # a row is longer: the next call looks at all of it
            return None
        self._stuck = not moved
        # A row that is not complete is not looked at again before there is much more of it.
        self._wanted = self._decode_bytes if moved else min(2 * before, self._max_row_bytes + 1)
        return arrays

    @property
    def more(self) -> bool:
        """When all has come: whether there may be rows that are not decoded yet."""
        return not self._stuck and bool(self._received) and self._received[:4] != _COUNT

    def finish(self) -> None:
        """Parses what is left, and checks the end of the stream.

        Raises:
            TruncatedStreamError: the stream ends before its end.
            ChecksumMismatchError: the rows are not those that were summed up.
            MalformedFrameError: the number of rows differs, or bytes follow the end.
        """
        while self.more:
            arrays = self.decode()
            if arrays is not None:
                self._ready.append(arrays)
        position = self._trailer()
        if position != len(self._received):
            raise MalformedFrameError(
                "bytes after the end of the stream", layer=LAYER, offset=self._offset + position
            )

    # --- rows ----------------------------------------------------------------------------------

    def _decode(self, window: int) -> list[pa.Array] | None:
        length = min(window, len(self._received))
        with memoryview(self._received) as view:
            # A copy: what is decoded must not change when more is received, and has zeros behind it.
            data = np.frombuffer(b"".join((view[:length], bytes(SLACK))), np.uint8)
        part = _Part(data, length, self._layouts, self._offset, self._max_rows)
        rows = part.rows()
        # Where fewer rows are taken than have come, the next part need not be looked at so far.
        self._window = self._decode_bytes
        if part.cut:
            self._window = min(self._window, max(_LEAST_WINDOW, 2 * part.end))
        arrays: list[pa.Array] | None = None
        if len(rows):
            columns = part.columns(rows)
            arrays = []
            for column, layout, name in zip(columns, self._layouts, self._names, strict=True):
                try:
                    arrays.append(_typed(column, layout))
                except (pa.ArrowInvalid, OverflowError) as error:
                    raise InvalidDataError(
                        f"a value of the record stream does not fit column {name}: {error}",
                        layer=LAYER,
                    ) from error
            self._check(part, rows, arrays)
        self._offset += part.end
        del self._received[: part.end]
        if len(self._received) > self._max_row_bytes:
            raise LimitExceededError(
                "a row of the record stream is too long",
                layer=LAYER,
                offset=self._offset,
                actual=len(self._received),
                limit=self._max_row_bytes,
            )
        return arrays

    def _check(self, part: _Part, rows: _Rows, arrays: list[pa.Array]) -> None:
        stored = part.sums(rows)
        computed = row_checksums(self._layouts, arrays)
        if not np.array_equal(stored, computed):
            row = int(np.argmax(stored != computed))
            raise ChecksumMismatchError(
                f"row {self._rows + row} of the record stream is damaged",
                layer=LAYER,
                offset=self._offset + int(rows.starts[row]),
                expected=int(stored[row]),
                actual=int(computed[row]),
            )
        self._rows += len(computed)
        self._checksum = crc32c(computed.astype("<u4").tobytes(), self._checksum)

    def _trailer(self) -> int:
        view = bytes(self._received)
        if view[:4] != _COUNT:
            raise TruncatedStreamError(
                "the record stream ends before its end",
                layer=LAYER,
                offset=self._offset + len(view),
            )
        try:
            count, position = take_varint(view, 4, len(view))
            if view[position : position + 4] != _SUM:
                raise MalformedFrameError(
                    "the record stream's checksum is missing",
                    layer=LAYER,
                    offset=self._offset + position,
                    expected=f"field {STREAM_CHECKSUM} after field {ROW_COUNT}",
                )
            checksum, position = take_varint(view, position + 4, len(view))
        except IncompleteRowError:
            raise TruncatedStreamError(
                "the record stream ends in its last fields", layer=LAYER, offset=self._offset
            ) from None
        if count != self._rows << 1:
            raise MalformedFrameError(
                "the record stream has another number of rows than it says",
                layer=LAYER,
                offset=self._offset,
                expected=count >> 1,
                actual=self._rows,
            )
        if checksum & 0xFFFFFFFF != self._checksum or 0xFFFFFFFF < checksum < _EXTENDED:
            raise ChecksumMismatchError(
                "the record stream's checksum differs",
                layer=LAYER,
                offset=self._offset,
                expected=checksum & 0xFFFFFFFF,
                actual=self._checksum,
            )
        return position


def _allowed(length: int) -> int:
    return min(max(EXPANSION_FLOOR, EXPANSION * length), EXPANSION_MOST)


class _Rows(NamedTuple):
    """Rows of a part: where each begins, and where the tag of its end stands."""

    starts: Ints
    ends: Ints

    def __len__(self) -> int:
        return len(self.starts)


class _Part:
    """What was received and not parsed yet."""

    def __init__(
        self,
        data: Bytes,
        length: int,
        layouts: tuple[RecordLayout, ...],
        offset: int,
        max_rows: int,
    ) -> None:
        self._fields = ColumnParser(data, layouts, _allowed(length))
        self._data = data
        self._length = length
        self._max_rows = max_rows
        self._offset = offset
        self._layouts = layouts
        self._parsed: list[pa.Array] | None = None
        self.end = 0  # where the last complete row ends
        self.cut = False  # whether there are as many rows as there may be
        self._incomplete = False  # whether what follows is known to begin as a row

    def rows(self) -> _Rows:
        """The rows that are complete, in order.

        Raises:
            MalformedFrameError: something else stands where a row has to begin or go on.
        """
        data, length = self._data, self._length
        ends = _row_ends(data, length)
        sum_ends = self._after_sums(ends)
        starts = np.concatenate([[0], sum_ends[sum_ends <= length]]).astype(np.int64)
        if (starts[1:] <= starts[:-1]).any():
            starts = np.unique(starts)  # an end inside another's checksum
        # Each candidate ends at the first end that is not before it.
        which = np.searchsorted(ends, starts)
        known = which < len(ends)
        candidates = _Rows(starts[known], ends[which[known]])
        following = sum_ends[which[known]]
        whole = np.flatnonzero(following <= length)[: self._max_rows]
        self.cut = len(whole) == self._max_rows
        candidates = _Rows(candidates.starts[whole], candidates.ends[whole])
        following = following[whole]
        parsed, sound = self._fields.columns(candidates.starts, candidates.ends)
        if (
            len(candidates)
            and sound.all()
            and np.array_equal(following[:-1], candidates.starts[1:])
        ):
            result = candidates
            self._parsed = parsed
            self.end = int(following[-1])
        else:
            result = self._chained(candidates, following, sound)
        if not (self.cut or self._incomplete):
            self._check_rest()
        return result

    def _chained(self, candidates: _Rows, following: Ints, sound: Mask) -> _Rows:
        """The candidates that follow each other from the first byte on; others were inside values."""
        numbers = {start: n for n, start in enumerate(candidates.starts.tolist())}
        ends, next_starts, right = candidates.ends.tolist(), following.tolist(), sound.tolist()
        view = self._data.tobytes()
        row_starts: list[int] = []
        row_ends: list[int] = []
        position = 0
        while position < self._length and view[position : position + 4] != _COUNT:
            if len(row_starts) == self._max_rows:
                break
            n = numbers.get(position)
            if n is not None and right[n]:
                end, after = ends[n], next_starts[n]
            else:
                try:
                    end = self._scalar_end(view, position)
                    after = take_varint(view, end + 4, self._length)[1]
                except IncompleteRowError:
                    self._incomplete = True
                    break
            row_starts.append(position)
            row_ends.append(end)
            position = after
        self.end = position
        return _Rows(np.array(row_starts, np.int64), np.array(row_ends, np.int64))

    def _check_rest(self) -> None:
        """An incomplete row must at least begin as one: garbage is told before more is read."""
        view = self._data[self.end : self._length].tobytes()
        if len(view) >= 4 and view[:4] != _COUNT:
            try:
                self._scalar_end(self._data.tobytes(), self.end)
            except IncompleteRowError:
                return

    def _scalar_end(self, view: bytes, position: int) -> int:
        """Where the end of a row stands, found value by value."""
        length = self._length
        for number, layout in enumerate(self._layouts, start=1):
            tag = record_tag(number, layout)
            if view.startswith(tag, position) and position + len(tag) <= length:
                position = skip_value(layout, view, position + len(tag), length)
        if position + 4 > length:
            raise IncompleteRowError
        if view[position : position + 4] != _END:
            raise MalformedFrameError(
                "neither a field of the table, in the order of its columns, nor the end of a row",
                layer=LAYER,
                offset=self._offset + position,
                expected=f"a field up to {len(self._layouts)}, or {END_OF_ROW}",
            )
        return position

    def _after_sums(self, ends: Ints) -> Ints:
        """Where the checksums behind the ends of rows end; beyond the data where they are cut off."""
        _, after, sound = self._fields.varints(ends + 4)
        return np.where(sound, after, self._length + 1)

    def sums(self, rows: _Rows) -> NDArray[np.uint32]:
        """The checksums that the rows carry."""
        values, _, _ = self._fields.varints(rows.ends + 4)
        wide = np.flatnonzero(values >> np.uint64(32))
        if len(wide):
            # One at or above 2**31 may come sign-extended, and in no other form of more than 32 bits.
            odd = wide[values[wide] < np.uint64(_EXTENDED)]
            if len(odd):
                raise MalformedFrameError(
                    "a row's checksum has more than 32 bits",
                    layer=LAYER,
                    offset=self._offset + int(rows.ends[odd[0]]),
                )
        return (values & np.uint64(0xFFFFFFFF)).astype(np.uint32)

    def columns(self, rows: _Rows) -> list[pa.Array]:
        """The values of rows whose ends are known.

        Raises:
            MalformedFrameError: a row holds what is no value of its column.
        """
        if self._parsed is not None:
            return self._parsed
        columns, sound = self._fields.columns(rows.starts, rows.ends)
        if not sound.all():
            # Its end was found by the places of its values alone.
            raise MalformedFrameError(
                "a row of the record stream holds what is no value of its column",
                layer=LAYER,
                offset=self._offset + int(rows.starts[np.argmin(sound)]),
                expected="flags of 0 or 1, nanoseconds below a second, maps with a value for each key",
            )
        return columns


def _row_ends(data: Bytes, length: int) -> Ints:
    """Where the four bytes that end a row stand."""
    words = np.ndarray((max(0, length - 3),), "<u4", data, 0, (1,))
    return np.flatnonzero(words == np.uint32(int.from_bytes(_END, "little")))


def _typed(array: pa.Array, layout: RecordLayout) -> pa.Array:
    """The column in its own type.

    Exact: a cast refuses integers that a narrower type does not have, and the fields of structs have the
    layout's names already, by which a cast finds them.
    """
    return array if array.type == layout.type else array.cast(layout.type)
