"""Parses values of a record stream: many at once, each at its own position.

What is here knows values and rows, and nothing of streams: see `tunnel_record_decoder`.
"""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fletching.errors import LimitExceededError, MalformedFrameError
from fletching.wire.tunnel_layouts import LAYER, MOMENT_TYPE, Kind, RecordLayout, record_tag
from fletching.wire.tunnel_rows import SLACK, copy_strings
from fletching.wire.tunnel_scalars import IncompleteRowError, skip_elements

__all__ = ["ColumnParser"]

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_ELEMENT_BYTES = 24  # an element's place, its row's end, and whether it is there
_SHORT = 64
"""Mean length of byte strings above which Arrow copies them faster, found by views."""
_BLOCK = 1 << 16
"""Elements, or bytes of them, that a step is done for at a time."""
_FEW = 64
"""Rows below which a step for each list element costs more in numpy than in Python."""


class ColumnParser:
    """Parses values at many positions in one step.

    Positions whose values do not parse, or reach beyond their limit, come back as not sound; what is
    returned for them has no meaning.
    """

    def __init__(self, data: Bytes, layouts: tuple[RecordLayout, ...], allowed: int) -> None:
        """Looks at nothing yet.

        Args:
            data: what was received, with `SLACK` zeros behind it.
            layouts: of the columns.
            allowed: bytes that the elements of lists may take, nulls among them.
        """
        self._data = data
        self._allowed = allowed
        self._buffer = pa.py_buffer(data)
        self._last = len(data) - SLACK
        self._layouts = layouts
        # Two views of the same bytes, so that a number may be read at any of them.
        self._words = np.ndarray((len(data) - 7,), "<u8", data, 0, (1,))
        self._halves = np.ndarray((len(data) - 3,), "<u4", data, 0, (1,))

    def columns(self, starts: Ints, ends: Ints) -> tuple[list[pa.Array], Mask]:
        """The columns of rows, and whether each row that begins there ends at its end."""
        position = starts.copy()
        sound = np.ones(len(starts), np.bool_)
        result: list[pa.Array] = []
        for number, layout in enumerate(self._layouts, start=1):
            tag = record_tag(number, layout)
            mask = np.uint32((1 << (8 * len(tag))) - 1) if len(tag) < 4 else np.uint32(0xFFFFFFFF)
            wanted = np.uint32(int.from_bytes(tag, "little"))
            here = self._halves[np.minimum(position, self._last)] & mask == wanted
            here &= position < ends
            rows = np.flatnonzero(here)
            values, after, right = self._values(layout, position[rows] + len(tag), ends[rows])
            position[rows] = after
            sound[rows] &= right
            position[~sound] = self._last
            result.append(values if len(rows) == len(starts) else _spread(values, here))
        return result, sound & (position == ends)

    def varints(self, position: Ints) -> tuple[NDArray[np.uint64], Ints, Mask]:
        """Varints, where each ends, and whether it does so within the data and ten bytes."""
        position = np.minimum(position, self._last)
        word = self._words[position]
        stop = ~word & np.uint64(0x8080808080808080)
        low = stop & (~stop + np.uint64(1))
        # The exponent of the lowest such bit, as a double, tells the varint's last byte.
        length = np.frexp(low.astype(np.float64))[1].astype(np.int64) >> 3
        x = word & (low | (low - np.uint64(1))) & np.uint64(0x7F7F7F7F7F7F7F7F)
        x = x & np.uint64(0x007F007F007F007F) | (x & np.uint64(0x7F007F007F007F00)) >> np.uint64(1)
        x = x & np.uint64(0x00003FFF00003FFF) | (x & np.uint64(0x3FFF00003FFF0000)) >> np.uint64(2)
        x = x & np.uint64(0x000000000FFFFFFF) | (x & np.uint64(0x0FFFFFFF00000000)) >> np.uint64(4)
        sound = np.ones(len(position), np.bool_)
        longer = np.flatnonzero(stop == 0)
        if len(longer):
            next_at = position[longer] + 8
            ninth = self._data[np.minimum(next_at, self._last)].astype(np.uint64)
            tenth = self._data[np.minimum(next_at + 1, self._last)].astype(np.uint64)
            ten = ninth > 0x7F
            x[longer] |= (ninth & np.uint64(0x7F)) << np.uint64(56)
            x[longer] |= np.where(ten, tenth << np.uint64(63), np.uint64(0))
            length[longer] = np.where(ten, 10, 9)
            sound[longer] = ~ten | (tenth <= 1)
        after = position + length
        return x, after, sound & (after <= self._last)

    def _values(
        self, layout: RecordLayout, position: Ints, limit: Ints
    ) -> tuple[pa.Array, Ints, Mask]:
        match layout.kind:
            case Kind.INTEGER:
                values, after, sound = self.varints(position)
                return pa.array(_unzigzag(values)), after, sound & (after <= limit)
            case Kind.BOOLEAN:
                values, after, sound = self.varints(position)
                return pa.array(values != 0), after, sound & (after <= limit) & (values <= 1)
            case Kind.FLOAT:
                numbers = self._halves[np.minimum(position, self._last)].view("<f4")
                return pa.array(numbers), position + 4, position + 4 <= limit
            case Kind.DOUBLE:
                numbers = self._words[np.minimum(position, self._last)].view("<f8")
                return pa.array(numbers), position + 8, position + 8 <= limit
            case Kind.BYTES:
                return self._byte_strings(position, limit)
            case Kind.MOMENT:
                seconds, after, first = self.varints(position)
                nanos, after, second = self.varints(after)
                part = _unzigzag(nanos)
                sound = first & second & (after <= limit) & (part >= 0) & (part < 1_000_000_000)
                arrays = [
                    pa.array(_unzigzag(seconds)),
                    pa.array(np.where(sound, part, 0), pa.int32()),
                ]
                return (
                    pa.StructArray.from_arrays(arrays, fields=list(MOMENT_TYPE)),
                    after,
                    sound,
                )
            case Kind.LIST:
                offsets, elements, after, sound = self._lists(layout.children[0], position, limit)
                return pa.ListArray.from_arrays(offsets, elements), after, sound
            case Kind.MAP:
                key, item = layout.children
                offsets, keys, after, first = self._lists(key, position, limit, nullable=False)
                others, items, after, second = self._lists(item, after, np.where(first, limit, 0))
                # Where one has another number of elements, the row is not sound, and no value.
                same = np.diff(offsets.to_numpy()) == np.diff(others.to_numpy())
                sound = first & second & same
                return self._maps(offsets, keys, others, items, sound), after, sound
            case Kind.STRUCT:
                return self._structs(layout, position, limit)
            case Kind.VECTOR:
                return self._vectors(layout.children[0], position, limit)

    def _byte_strings(self, position: Ints, limit: Ints) -> tuple[pa.Array, Ints, Mask]:
        lengths, begin, sound = self.varints(position)
        room = np.maximum(limit - begin, 0).astype(np.uint64)
        sound = sound & (lengths <= room)
        sizes = np.where(sound, lengths, 0).astype(np.int64)
        begin = np.where(sound, begin, 0)
        offsets = np.zeros(len(sizes) + 1, np.int64)
        np.cumsum(sizes, out=offsets[1:])
        total = int(offsets[-1])
        if total > _SHORT * len(sizes):
            return self._views(begin, sizes), begin + sizes, sound
        content = np.empty(total + SLACK, np.uint8)
        copy_strings(self._data, begin, sizes, content, offsets[:-1])
        buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(content)]
        return pa.Array.from_buffers(pa.binary(), len(sizes), buffers), begin + sizes, sound

    def _views(self, begin: Ints, sizes: Ints) -> pa.Array:
        """Byte strings, copied out of what was received: found by views, so that Arrow copies them."""
        views = np.zeros((len(begin), 4), np.uint32)
        views[:, 0] = sizes
        first = self._halves[np.minimum(begin, self._last)]
        views[:, 1] = first
        views[:, 3] = begin
        short = np.flatnonzero(sizes <= 12)  # the format keeps them in the view
        if len(short):
            at = np.minimum(begin[short], self._last)
            inline = np.stack(
                [self._halves[at], self._halves[np.minimum(at + 4, self._last + 8)],
                 self._halves[np.minimum(at + 8, self._last + 12)]], axis=1
            )  # fmt: skip
            kept = sizes[short][:, None] - np.arange(0, 12, 4)
            bits = np.clip(kept, 0, 4).astype(np.uint64) * np.uint64(8)
            keep = ((np.uint64(1) << bits) - np.uint64(1)).astype(np.uint32)
            views[short, 1:] = inline & keep
        result = pa.Array.from_buffers(
            pa.binary_view(), len(begin), [None, pa.py_buffer(views), self._buffer]
        )
        # The same bytes, in memory of their own; more than 2 GiB are refused.
        return result.cast(pa.binary())

    def _lists(
        self, child: RecordLayout, position: Ints, limit: Ints, *, nullable: bool = True
    ) -> tuple[pa.Array, pa.Array, Ints, Mask]:
        """Offsets, elements, where each list ends, and whether it is sound."""
        # Each element has at least its flag's byte.
        counts, after, sound = self._counts(position, limit, 1)
        offsets = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        self._check_elements(child, int(offsets[-1]))
        at = np.zeros(int(offsets[-1]), np.int64)
        here = np.zeros(len(at), np.bool_)
        limits = np.repeat(limit, counts)
        noted = offsets, at, here
        after = self._walk(child, counts, after, limit, sound, noted, nullable=nullable)
        here &= np.repeat(sound, counts)
        present = np.flatnonzero(here)
        values, right = self._elements(child, at, limits, present)
        if not right.all():
            owner = np.repeat(np.arange(len(counts)), counts)[present]
            sound[owner[~right]] = False
        elements = values if len(present) == len(here) else _spread(values, here)
        return pa.array(offsets.astype(np.int32)), elements, after, sound

    def _elements(
        self, child: RecordLayout, at: Ints, limits: Ints, present: Ints
    ) -> tuple[pa.Array, Mask]:
        """Some elements and whether each is sound; of many at a time, as a step holds several times their size."""
        parts = [
            self._values(child, at[chosen], limits[chosen])
            for chosen in np.split(present, range(_BLOCK, len(present), _BLOCK))
        ]
        if len(parts) == 1:
            return parts[0][0], parts[0][2]
        right = np.concatenate([each for _, _, each in parts])
        return pa.concat_arrays([values for values, _, _ in parts]), right

    def _walk(  # noqa: PLR0917  # what it goes by, then what it notes
        self,
        child: RecordLayout,
        counts: Ints,
        position: Ints,
        limit: Ints,
        sound: Mask,
        noted: tuple[Ints, Ints, Mask] | None = None,
        *,
        nullable: bool = True,
    ) -> Ints:
        """Where elements end, of all lists at once; rows that are not sound are marked.

        With ``noted`` (where each list's elements begin among all; and to be filled: where each stands,
        and whether it is there). Goes over values and does not parse them: lists inside lists are
        parsed a level at a time, and a level that parsed those below would do so for each above it.
        """
        after = position.copy()
        active = np.flatnonzero(counts > 0)
        step = 0
        while len(active) >= _FEW:
            flags, begin = self._flags(after[active])
            present = flags == 0
            if noted is not None:
                offsets, at, here = noted
                slots = offsets[active] + step
                at[slots], here[slots] = begin, present
            good = (flags <= nullable) & (begin <= limit[active])
            skipped = begin.copy()
            rows = np.flatnonzero(present & good)
            if len(rows):
                ends, right = self._skipped(child, begin[rows], limit[active[rows]])
                skipped[rows] = ends
                good[rows] &= right
            after[active] = skipped
            sound[active[~good]] = False
            step += 1
            active = active[good & (counts[active] > step)]
        view = self._bytes if len(active) else b""
        for row in active.tolist():
            targets: Ints | int = int(counts[row]) - step
            there = None
            if noted is not None:
                offsets, at, here = noted
                targets = at[offsets[row] + step : offsets[row + 1]]
                there = here[offsets[row] + step : offsets[row + 1]]
            try:
                after[row] = skip_elements(
                    child, view, int(after[row]), int(limit[row]), targets, there, nullable=nullable
                )
            except (IncompleteRowError, MalformedFrameError):
                sound[row] = False
        return after

    def _skipped(self, layout: RecordLayout, position: Ints, limit: Ints) -> tuple[Ints, Mask]:
        """Where values end, and whether they do so within their limits."""
        match layout.kind:
            case Kind.FLOAT | Kind.DOUBLE:
                after = position + (4 if layout.kind is Kind.FLOAT else 8)
                sound = np.ones(len(position), np.bool_)
            case Kind.INTEGER | Kind.BOOLEAN:
                _, after, sound = self.varints(position)
            case Kind.MOMENT:
                _, after, first = self.varints(position)
                _, after, second = self.varints(after)
                sound = first & second
            case Kind.BYTES | Kind.VECTOR:
                width = 1
                if layout.kind is Kind.VECTOR:
                    width = 4 if layout.children[0].kind is Kind.FLOAT else 8
                counts, after, sound = self._counts(position, limit, width)
                after = after + counts * width
            case Kind.LIST | Kind.MAP:
                after, sound = position, np.ones(len(position), np.bool_)
                for number, child in enumerate(layout.children):
                    counts, after, right = self._counts(after, np.where(sound, limit, 0), 1)
                    sound = sound & right
                    counts = np.where(sound, counts, 0)
                    nullable = layout.kind is Kind.LIST or number > 0
                    after = self._walk(child, counts, after, limit, sound, nullable=nullable)
            case Kind.STRUCT:
                ones = np.ones(len(position), np.int64)
                after, sound = position, np.ones(len(position), np.bool_)
                for child in layout.children:
                    after = self._walk(child, np.where(sound, ones, 0), after, limit, sound)
        return after, sound & (after <= limit)

    def _counts(self, position: Ints, limit: Ints, width: int) -> tuple[Ints, Ints, Mask]:
        """How many elements of at least a width follow, where, and whether there is room for them."""
        claimed, after, sound = self.varints(position)
        room = np.maximum(limit - after, 0).astype(np.uint64) // np.uint64(width)
        sound = sound & (claimed <= room)
        return np.where(sound, claimed, 0).astype(np.int64), after, sound

    def _check_elements(self, child: RecordLayout, count: int) -> None:
        need = count * (child.width + _ELEMENT_BYTES)
        if need > self._allowed:
            raise LimitExceededError(
                "lists of the record stream have more elements than their bytes justify",
                layer=LAYER,
                actual=need,
                limit=self._allowed,
            )

    @functools.cached_property
    def _bytes(self) -> bytes:
        # A copy, once: Python takes single bytes out of it twice as fast as out of an array.
        return self._data.tobytes()

    def _flags(self, position: Ints) -> tuple[Bytes, Ints]:
        flags = self._data[np.minimum(position, self._last)]
        return flags, position + 1

    def _maps(
        self, offsets: pa.Array, keys: pa.Array, others: pa.Array, items: pa.Array, sound: Mask
    ) -> pa.Array:
        if not keys.null_count and np.array_equal(offsets.to_numpy(), others.to_numpy()):
            return pa.MapArray.from_arrays(offsets, keys, items)
        # Some candidates have unlike halves, or a key that is not there: they become empty, so that the
        # others fit together.
        sound_rows = pa.array(sound)
        first = pa.ListArray.from_arrays(offsets, keys)
        second = pa.ListArray.from_arrays(others, items)
        empty = pa.array(np.where(sound, np.arange(len(sound)), -1))
        chosen = pc.if_else(sound_rows, empty, pa.scalar(None, pa.int64()))
        first, second = first.take(chosen), second.take(chosen)
        return pa.MapArray.from_arrays(_plain_offsets(first), first.flatten(), second.flatten())

    def _structs(
        self, layout: RecordLayout, position: Ints, limit: Ints
    ) -> tuple[pa.Array, Ints, Mask]:
        after = position.copy()
        sound = np.ones(len(position), np.bool_)
        arrays = []
        for child in layout.children:
            flags, begin = self._flags(after)
            sound &= (flags <= 1) & (begin <= limit)
            here = (flags == 0) & sound
            rows = np.flatnonzero(here)
            values, ends, right = self._values(child, begin[rows], limit[rows])
            after = begin
            after[rows] = ends
            sound[rows] &= right
            after[~sound] = self._last
            arrays.append(values if len(rows) == len(position) else _spread(values, here))
        if not arrays:
            return pa.array([{}] * len(position), pa.struct([])), after, sound
        names = [layout.type.field(n).name for n in range(len(arrays))]
        return pa.StructArray.from_arrays(arrays, names), after, sound

    def _vectors(
        self, child: RecordLayout, position: Ints, limit: Ints
    ) -> tuple[pa.Array, Ints, Mask]:
        width = 4 if child.kind is Kind.FLOAT else 8
        claimed, begin, sound = self.varints(position)
        room = np.maximum(limit - begin, 0).astype(np.uint64) // np.uint64(width)
        sound = sound & (claimed <= room)
        counts = np.where(sound, claimed, 0).astype(np.int64)
        offsets = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        at = np.repeat(begin - offsets[:-1] * width, counts) + np.arange(int(offsets[-1])) * width
        values, _, _ = self._values(child, at, at + width)
        return (
            pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values),
            begin + counts * width,
            sound,
        )


def _unzigzag(values: NDArray[np.uint64]) -> Ints:
    signed = (values >> np.uint64(1)).view(np.int64)
    result: Ints = signed ^ -((values & np.uint64(1)).view(np.int64))
    return result


def _spread(values: pa.Array, here: Mask) -> pa.Array:
    """Values at the rows that have them, null at the others."""
    if not len(values):
        return pa.nulls(len(here), values.type)
    targets = np.cumsum(here, dtype=np.int32) - 1
    return values.take(pa.array(targets, mask=~here))


def _plain_offsets(lists: pa.Array) -> pa.Array:
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy()
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.array(offsets)
