"""Values of a record stream as byte strings, one a row: what is sent, and what the checksum covers.

For values inside others and for those of no fixed width; `tunnel_rows` puts plain ones in place itself.
An array here has the type ``large_binary`` and is empty where there is no value.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fletching.errors import UsageError
from fletching.wire.tunnel_layouts import Kind, RecordLayout

__all__ = [
    "byte_strings",
    "covered_by_checksum",
    "list_counts",
    "number_parts",
    "offsets_of",
    "sent_elements",
    "sent_value",
    "varint_words",
    "zigzag",
]

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
Mask = NDArray[np.bool_]


# --- numbers ------------------------------------------------------------------------------------


def zigzag(values: Ints) -> Words:
    """Signed numbers so that small ones of either sign are small."""
    return (values << 1 ^ values >> 63).view(np.uint64)


def varint_words(values: Words) -> tuple[Words, Ints, Words | None]:
    """Varints: their first eight bytes in a word, how long each is, and the others if one has them."""
    x = values & np.uint64(0x0FFFFFFF) | (values & np.uint64(0x00FFFFFFF0000000)) << np.uint64(4)
    x = x & np.uint64(0x00003FFF00003FFF) | (x & np.uint64(0x0FFFC0000FFFC000)) << np.uint64(2)
    x = x & np.uint64(0x007F007F007F007F) | (x & np.uint64(0x3F803F803F803F80)) << np.uint64(1)
    # The exponent tells the highest byte that is not 0. Its top bit is free: rounding stays inside.
    exponent = np.frexp(x.astype(np.float64))[1]
    lengths = np.maximum(exponent + 7 >> 3, 1).astype(np.int64)
    goes_on = np.uint64(0x8080808080808080)
    high = values >> np.uint64(56)
    if not high.any():
        below = (np.uint64(1) << ((lengths - 1) << 3).astype(np.uint64)) - np.uint64(1)
        return x | goes_on & below, lengths, None
    top = high >> np.uint64(7)
    lengths = np.where(high > 0, (9 + top).astype(np.int64), lengths)
    shift = (np.minimum(lengths - 1, 7) << 3).astype(np.uint64)
    below = np.where(lengths > 8, goes_on, (np.uint64(1) << shift) - np.uint64(1))
    return x | goes_on & below, lengths, high & np.uint64(0x7F) | top << np.uint64(7) | top << np.uint64(8)  # fmt: skip


def _integers(array: pa.Array) -> Ints:
    """Values as int64, nulls as 0."""
    without_nulls = array.fill_null(0) if array.null_count else array
    result: Ints = _numpy(without_nulls).astype(np.int64, copy=False)
    return result


def number_parts(layout: RecordLayout, array: pa.Array) -> list[pa.Array]:
    """What the checksum covers of values of one width: one array, or two; nulls are 0.

    The first eight bytes of what is sent are made of the same numbers.
    """
    match layout.kind:
        case Kind.INTEGER:
            return [_integers(array)]
        case Kind.BOOLEAN:
            return [_numpy(array.fill_null(False)).astype(np.uint8)]
        case Kind.FLOAT | Kind.DOUBLE:
            without_nulls = array.fill_null(0.0) if array.null_count else array
            return [_numpy(without_nulls)]
        case _:
            return [_integers(array.field(0)), _integers(array.field(1)).astype(np.int32)]


def _varints(
    values: Ints | NDArray[np.generic], here: Mask | None = None, flags: bool = False
) -> pa.Array:
    """Unsigned numbers as varints, empty where there is none; behind a byte 0, or 1 for none."""
    low, lengths, high = varint_words(values.astype(np.uint64, copy=False))
    absent = None if here is None else ~here
    if absent is not None:
        lengths = np.where(absent, 0, lengths)
    first = 1 if flags else 0
    width = first + int(lengths.max(initial=0))
    cells = np.zeros((len(values), max(width, 1)), np.uint8)
    if flags and absent is not None:
        cells[:, 0] = absent
    parts = low.view(np.uint8).reshape(len(values), 8)
    kept = min(8, width - first)
    cells[:, first : first + kept] = parts[:, :kept]
    if high is not None and width - first > 8:
        rest = high.view(np.uint8).reshape(len(values), 8)
        cells[:, first + 8 :] = rest[:, : width - first - 8]
    return _compressed(cells, lengths + first)


def _compressed(cells: Bytes, lengths: Ints) -> pa.Array:
    """The first bytes of each row."""
    offsets = _summed(lengths)
    width = cells.shape[1]
    if int(offsets[-1]) == cells.size:
        return _binary(cells.reshape(-1), offsets)
    return _binary(cells[np.arange(width) < lengths[:, None]], offsets)


def _fixed(values: Ints | NDArray[np.generic], here: Mask | None) -> pa.Array:
    """Numbers of one width as byte strings, empty where null."""
    width = values.dtype.itemsize
    if here is None:
        return _binary(np.ascontiguousarray(values), np.arange(len(values) + 1) * width)
    return _binary(np.ascontiguousarray(values[here]), _summed(here * width))


# --- byte strings -------------------------------------------------------------------------------


def _numpy(array: pa.Array) -> NDArray[np.generic]:
    return array.to_numpy(zero_copy_only=False)


def _here(array: pa.Array) -> Mask | None:
    if array.null_count == 0:
        return None
    here: Mask = array.is_valid().to_numpy(zero_copy_only=False)
    return here


def _binary(data: Bytes | bytes, offsets: Ints) -> pa.Array:
    """Byte strings that follow each other in `data`, as an array that borrows it."""
    return pa.Array.from_buffers(
        pa.large_binary(),
        len(offsets) - 1,
        [None, pa.py_buffer(np.ascontiguousarray(offsets, np.int64)), pa.py_buffer(data)],
    )


def _joined(*arrays: pa.Array) -> pa.Array:
    """Byte strings put together row by row."""
    if len(arrays) == 1:
        return arrays[0]
    return pc.binary_join_element_wise(*arrays, pa.scalar(b"", pa.large_binary()))


def _summed(lengths: Ints) -> Ints:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _only(rows: pa.Array, here: Mask | None) -> pa.Array:
    """Byte strings, empty where null."""
    if here is None:
        return rows
    return pc.if_else(pa.array(here), rows, pa.scalar(b"", pa.large_binary()))


def offsets_of(array: pa.Array) -> Ints:
    """Where each byte string of an array begins, and the last ends."""
    wide = pa.types.is_large_binary(array.type)
    kind = np.dtype(np.int64 if wide else np.int32)
    result = np.frombuffer(array.buffers()[1], kind, len(array) + 1, array.offset * kind.itemsize)
    return result.astype(np.int64)


# --- lists --------------------------------------------------------------------------------------


def list_counts(array: pa.Array) -> tuple[Ints, Ints]:
    """Where each list or map begins and ends among its elements; null ones are empty."""
    if not len(array):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    offsets = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, array.offset * 4).astype(
        np.int64
    )
    starts, ends = offsets[:-1], offsets[1:]
    here = _here(array)
    return starts, ends if here is None else np.where(here, ends, starts)


def _grouped(elements: pa.Array, starts: Ints, ends: Ints) -> pa.Array:
    """The bytes of each list's elements, which follow each other."""
    offsets = offsets_of(elements)
    data = elements.buffers()[2]
    if len(starts) == 0 or data is None:
        return _binary(b"", np.zeros(len(starts) + 1, np.int64))
    first, last = offsets[starts], offsets[ends]
    if np.array_equal(first[1:], last[:-1]):
        return _binary(data, np.append(first, last[-1:]))
    # Elements below null lists are there and belong to nobody: the lists are taken one by one.
    lengths = last - first
    cells = np.repeat(first - _summed(lengths)[:-1], lengths) + np.arange(int(lengths.sum()))
    return _binary(np.frombuffer(data, np.uint8)[cells], _summed(lengths))


def _lists_of(array: pa.Array, layout: RecordLayout) -> list[tuple[RecordLayout, pa.Array]]:
    """The elements of a list or vector; the keys and the values of a map."""
    if layout.kind is Kind.MAP:
        key, item = layout.children
        return [(key, array.keys), (item, array.items)]
    return [(layout.children[0], array.values)]


# --- what is sent -------------------------------------------------------------------------------


def sent_elements(layout: RecordLayout, array: pa.Array) -> list[pa.Array]:
    """Of lists: the bytes of each one's elements. Of maps: of its keys, and of its values."""
    starts, ends = list_counts(array)
    result = []
    for child, elements in _lists_of(array, layout):
        if layout.kind is Kind.VECTOR:
            if elements.null_count:
                raise UsageError("a vector has no null elements")
            sent = _fixed(number_parts(child, elements)[0], None)
        else:
            sent = _flagged(child, elements)
        result.append(_grouped(sent, starts, ends))
    return result


def byte_strings(array: pa.Array) -> pa.Array:
    """Texts and bytes of every layout as bytes with 64-bit offsets, null as empty."""
    return array.cast(pa.large_binary()).fill_null(
        b""
    )  # the same bytes, under offsets that reach further


def sent_value(layout: RecordLayout, array: pa.Array) -> pa.Array:
    """Each value as it is sent, without a tag."""
    here = _here(array)
    match layout.kind:
        case Kind.INTEGER:
            return _varints(zigzag(_integers(array)), here)
        case Kind.BOOLEAN | Kind.FLOAT | Kind.DOUBLE:
            return _fixed(number_parts(layout, array)[0], here)
        case Kind.BYTES:
            content = byte_strings(array)
            return _joined(_varints(np.diff(offsets_of(content)), here), content)
        case Kind.MOMENT:
            # A null row may hold anything below it.
            moment = (_integers(array.field(0)), _integers(array.field(1)))
            return _joined(*(_varints(zigzag(part), here) for part in moment))
        case Kind.LIST | Kind.MAP | Kind.VECTOR:
            starts, ends = list_counts(array)
            counts = _varints(ends - starts, here)
            parts = [[counts, elements] for elements in sent_elements(layout, array)]
            return _joined(*(chunk for part in parts for chunk in part))
        case Kind.STRUCT:
            # Fields without the struct's own nulls: those are told by the whole value's absence.
            fields = [_flagged(child, array.field(at)) for at, child in enumerate(layout.children)]
            if not fields:
                return _binary(b"", np.zeros(len(array) + 1, np.int64))
            return _only(_joined(*fields), here)


def _flagged(layout: RecordLayout, values: pa.Array) -> pa.Array:
    """Elements: a byte 1 for null, or 0 and the value."""
    here = _here(values)
    if layout.kind is Kind.INTEGER:
        return _varints(zigzag(_integers(values)), here, flags=True)
    if layout.kind in {Kind.BOOLEAN, Kind.FLOAT, Kind.DOUBLE}:
        parts = np.ascontiguousarray(number_parts(layout, values)[0])
        width = parts.dtype.itemsize
        cells = np.zeros((len(values), 1 + width), np.uint8)
        cells[:, 1:] = parts.view(np.uint8).reshape(len(values), width)
        lengths = np.full(len(values), 1 + width, np.int64)
        if here is not None:
            cells[:, 0] = ~here
            lengths[~here] = 1
        return _compressed(cells, lengths)
    if layout.kind is Kind.BYTES:
        content = byte_strings(values)
        return _joined(_varints(np.diff(offsets_of(content)), here, flags=True), content)
    flags = np.zeros(len(values), np.uint8)
    if here is not None:
        flags[~here] = 1
    return _joined(_fixed(flags, None), sent_value(layout, values))


# --- what the checksum covers -------------------------------------------------------------------


def covered_by_checksum(layout: RecordLayout, array: pa.Array) -> pa.Array:
    """The bytes of each value that its row's checksum covers."""
    here = _here(array)
    match layout.kind:
        case Kind.INTEGER | Kind.BOOLEAN | Kind.FLOAT | Kind.DOUBLE | Kind.MOMENT:
            return _joined(*(_fixed(part, here) for part in number_parts(layout, array)))
        case Kind.BYTES:
            return byte_strings(array)
        case Kind.LIST | Kind.MAP | Kind.VECTOR:
            starts, ends = list_counts(array)
            parts = [
                _grouped(covered_by_checksum(child, elements), starts, ends)
                for child, elements in _lists_of(array, layout)
            ]
            return _joined(*parts)
        case Kind.STRUCT:
            fields = [
                covered_by_checksum(child, array.field(at))
                for at, child in enumerate(layout.children)
            ]
            if not fields:
                return _binary(b"", np.zeros(len(array) + 1, np.int64))
            return _only(_joined(*fields), here)
