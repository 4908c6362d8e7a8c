"""Goes over values of a record stream one after the other, where few are to be found.

Values cost a call each here. `tunnel_columns` parses all values of a column at once, and needs this for
rows whose places it cannot guess and for the last of many lists.
"""

from __future__ import annotations

from typing import Any

from fletching.errors import MalformedFrameError
from fletching.wire.tunnel_layouts import LAYER, Kind, RecordLayout
from fletching.wire.tunnel_long_lists import MANY, skip_many

__all__ = ["IncompleteRowError", "skip_elements", "skip_value", "take_varint"]


class IncompleteRowError(Exception):
    """A value goes on behind what was received: no failure as long as more may come."""


def take_varint(view: bytes, position: int, limit: int) -> tuple[int, int]:
    """A varint of up to 64 bits, and where it ends; errors as for `skip_value`."""
    value = shift = 0
    while True:
        if position >= limit:
            raise IncompleteRowError
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte <= 0x7F:
            break
        shift += 7
        if shift > 63:
            raise MalformedFrameError(
                "a varint of more than ten bytes", layer=LAYER, offset=position - 1
            )
    if value >> 64:
        raise MalformedFrameError("a varint of more than 64 bits", layer=LAYER, offset=position - 1)
    return value, position


def skip_value(layout: RecordLayout, view: bytes, position: int, limit: int) -> int:
    """Where the value at a position ends.

    Raises:
        IncompleteRowError: beyond the limit.
        MalformedFrameError: it is no value of this layout.
    """
    match layout.kind:
        case Kind.INTEGER | Kind.BOOLEAN:
            return take_varint(view, position, limit)[1]
        case Kind.FLOAT:
            position += 4
        case Kind.DOUBLE:
            position += 8
        case Kind.BYTES:
            length, position = take_varint(view, position, limit)
            position += length
        case Kind.MOMENT:
            _, position = take_varint(view, position, limit)
            _, position = take_varint(view, position, limit)
        case Kind.LIST:
            count, position = take_varint(view, position, limit)
            return skip_elements(layout.children[0], view, position, limit, count)
        case Kind.MAP:
            for number, child in enumerate(layout.children):
                count, position = take_varint(view, position, limit)
                position = skip_elements(child, view, position, limit, count, nullable=number > 0)
        case Kind.STRUCT:
            for child in layout.children:
                position = skip_elements(child, view, position, limit, 1)
        case Kind.VECTOR:
            width = 4 if layout.children[0].kind is Kind.FLOAT else 8
            count, position = take_varint(view, position, limit)
            position += count * width
    if position > limit:
        raise IncompleteRowError
    return position


def skip_elements(  # noqa: PLR0917  # what it notes comes in the order of what it reads
    layout: RecordLayout,
    view: bytes,
    position: int,
    limit: int,
    at: Any,
    here: Any = None,
    *,
    nullable: bool = True,
) -> int:
    """Skips elements; notes where their values stand and which are there, when given arrays.

    Args:
        layout: of an element.
        view: the bytes.
        position: where the first begins.
        limit: what none may go beyond.
        at: how many there are; or an array to be filled with where each value stands.
        here: an array to be filled with whether each is there.
        nullable: whether they may be null; keys of maps may not.

    Raises:
        IncompleteRowError: beyond the limit.
        MalformedFrameError: one is no element of this layout.
    """
    count = at if isinstance(at, int) else len(at)
    done = 0
    if count > MANY:
        done, position = skip_many(layout, view, position, limit, at, here, nullable=nullable)
    for index in range(done, count):
        if position >= limit:
            raise IncompleteRowError
        flag = view[position]
        position += 1
        if flag > 1:
            raise MalformedFrameError(
                "an element is neither null nor there", layer=LAYER, offset=position - 1,
                expected="0 or 1", actual=flag,
            )  # fmt: skip
        if flag and not nullable:
            raise MalformedFrameError(
                "a key of a map is null",
                layer=LAYER,
                offset=position - 1,
                expected="0",
                actual=flag,
            )
        if here is not None:
            at[index], here[index] = position, flag == 0
        if flag == 0:
            position = skip_value(layout, view, position, limit)
    return position
