"""Goes over long lists of a record stream many bytes at a time.

Where an element ends, only its content says. But where one would end that began at some byte is found for
all bytes of a block in a few steps: the elements are those that follow each other from the first byte on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fletching.wire.tunnel_layouts import Kind, RecordLayout

__all__ = ["MANY", "skip_many"]

Bytes = NDArray[np.uint8]
Indices = NDArray[np.int32]
"""For each byte of a block, and for its end: an index up to its end, or one beyond for what is not whole."""

MANY = 256
"""Elements of one list above which they are found so."""
_BLOCK = 1 << 16
_LONG = 64
"""Bytes of texts, in the mean, above which to look at each byte takes longer than a call for each text."""
_DOUBLINGS = 4


def skip_many(  # noqa: PLR0917  # as `skip_elements`
    layout: RecordLayout,
    view: bytes,
    position: int,
    limit: int,
    at: Any,
    here: Any,
    *,
    nullable: bool,
) -> tuple[int, int]:
    """How many elements were gone over, and where the next begins; the arguments are those of `skip_elements`.

    It stops before elements that are malformed, are long or go on behind the limit.
    """
    data = np.frombuffer(view, np.uint8)
    count = at if isinstance(at, int) else len(at)
    least = 1 if not _has_texts(layout) else _BLOCK // _LONG
    done = 0
    while count - done > MANY:
        block = data[position : min(limit, position + _BLOCK)]
        starts, length = _numbers(layout, block, count - done)
        if not length:
            ends = _flagged(_ends(layout, block), block, nullable=nullable)
            starts, length = _followed(ends, count - done)
        if here is not None:
            at[done : done + len(starts)] = starts.astype(np.int64) + (position + 1)
            here[done : done + len(starts)] = block[starts] == 0
        done += len(starts)
        position += length
        if len(starts) < least:
            break
    return done, position


def _has_texts(layout: RecordLayout) -> bool:
    return layout.kind in {Kind.BYTES, Kind.VECTOR} or any(map(_has_texts, layout.children))


def _numbers(layout: RecordLayout, block: Bytes, count: int) -> tuple[Indices, int]:
    """Where numbers begin and the last ends; nothing if some are null or they are no numbers.

    Takes a quarter of the time of what is done for elements of every kind.
    """
    if layout.kind in {Kind.FLOAT, Kind.DOUBLE}:
        width = 5 if layout.kind is Kind.FLOAT else 9
        count = min(count, len(block) // width)
        flags = np.arange(count, dtype=np.int32) * np.int32(width)
        return (flags, 0) if block[flags].any() else (flags, count * width)
    flags = np.zeros(0, np.int32)
    if layout.kind is Kind.INTEGER:
        # A flag of 0 is one byte below 128, and a varint ends with the first of its own.
        ends = np.flatnonzero(block < 0x80).astype(np.int32)
        ends = ends[: 2 * min(len(ends) // 2, count)]
        if len(ends):
            flags = np.concatenate([np.zeros(1, np.int32), ends[1:-1:2] + np.int32(1)])
            short = (ends[1::2] - flags <= 9).all()  # those of ten bytes may have too many bits
            if short and (ends[::2] == flags).all() and not block[flags].any():
                return flags, int(ends[-1]) + 1
    return flags, 0


def _ends(layout: RecordLayout, block: Bytes) -> Indices:
    """Where a value ends that begins there."""
    beyond = len(block) + 1
    indices = np.arange(beyond + 1, dtype=np.int32)
    match layout.kind:
        case Kind.FLOAT | Kind.DOUBLE:
            return np.minimum(indices + (4 if layout.kind is Kind.FLOAT else 8), beyond)
        case Kind.INTEGER | Kind.BOOLEAN:
            return _varint_ends(block, indices)
        case Kind.MOMENT:
            ends = _varint_ends(block, indices)
            return ends[ends]
        case Kind.STRUCT:
            for child in layout.children:
                indices = _flagged(_ends(child, block), block)[indices]
            return indices
    first = _varint_ends(block, indices)
    counts = _counts(block, first)
    if layout.kind is Kind.BYTES:
        return np.minimum(first + counts, beyond)
    if layout.kind is Kind.VECTOR:
        width = 4 if layout.children[0].kind is Kind.FLOAT else 8
        return np.minimum(first + counts * np.int32(width), beyond)
    after = indices
    for number, child in enumerate(layout.children):
        # A list's elements are as many steps as its count says: those of 1, 2, 4, ... that make it up.
        nullable = layout.kind is Kind.LIST or number > 0
        jump = _flagged(_ends(child, block), block, nullable=nullable)
        ends, left = first.copy(), counts.copy()
        while True:
            odd = np.flatnonzero(left & 1)
            ends[odd] = jump[ends[odd]]
            left >>= 1
            if not left.any():
                break
            jump = jump[jump]
        after = ends[after]
    return after


def _varint_ends(block: Bytes, indices: Indices) -> Indices:
    """A varint ends with the first byte below 128, and has 64 bits in ten bytes at most."""
    length = len(block)
    last = np.full(len(indices), length, np.int32)
    np.copyto(last[:length], indices[:length], where=block < 0x80)
    ends = np.minimum.accumulate(last[::-1])[::-1] + np.int32(1)
    long = np.flatnonzero(ends - indices >= 10)
    wrong = (ends[long] - long > 10) | (block[np.minimum(ends[long], length) - 1] > 1)
    ends[long[wrong]] = length + 1
    return ends


def _counts(block: Bytes, ends: Indices) -> Indices:
    """What varints say, of which each ends at its place; more than the block has where they are not short."""
    length = len(block)
    counts = np.zeros(len(ends), np.int32)
    counts[:length] = block & 0x7F
    longer = np.flatnonzero(block >= 0x80)
    counts[longer] += (block[np.minimum(longer + 1, length - 1)] & np.int32(0x7F)) << 7
    counts[longer[ends[longer] - longer > 2]] = length
    return counts


def _flagged(ends: Indices, block: Bytes, *, nullable: bool = True) -> Indices:
    """Where an element ends: a byte 0 and a value, or 1 where it is null."""
    beyond = len(block) + 1
    result = np.full(len(ends), beyond, np.int32)
    np.copyto(result[:-2], ends[1:-1], where=block == 0)
    if nullable:
        np.copyto(result[:-2], np.arange(1, beyond, dtype=np.int32), where=block == 1)
    return result


def _followed(ends: Indices, count: int) -> tuple[Indices, int]:
    """Where the elements begin that follow each other from the first byte on, and where the last ends."""
    length = len(ends) - 2
    # Each step goes on by sixteen elements, and those between are found for all steps at once.
    jumps = [ends]
    for _ in range(_DOUBLINGS):
        jumps.append(jumps[-1][jumps[-1]])
    far = jumps.pop().data
    steps: list[int] = []
    index = 0
    while index < length and len(steps) << _DOUBLINGS < count:
        steps.append(index)
        index = far[index]
    starts = np.array(steps, np.int32)
    for jump in reversed(jumps):
        starts = np.stack([starts, jump[starts]], axis=1).reshape(-1)
    starts = starts[:count]
    starts = starts[ends[starts] <= length]
    return starts, int(ends[starts[-1]]) if len(starts) else 0
