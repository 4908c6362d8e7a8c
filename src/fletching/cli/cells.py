r"""Rows for people: values as text, and as many columns as a line of the terminal holds.

What looks alike is told apart: null is ``null``, empty text ``''``, text that reads ``null`` or is
framed by blanks is quoted, and bytes are ``x'00ff'``. Nested values are JSON. Control characters
become ``\xNN``, so that a cell cannot command the terminal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from fletching.cli.output import printable
from fletching.protocol.types.json_values import json_values

__all__ = [
    "Column",
    "grid_lines",
    "shown_columns",
    "shown_value",
    "tsv_columns",
    "vertical_lines",
]

GAP = "  "
LEAST_WIDTH = 8
"""A column is not cut to less than this."""
CUT_WIDTH = 30
"""What a column gets when not all fit as wide as they are."""
LONG_CELL = 4096
"""Characters of a cell that are looked at; no screen shows more of one."""


class Column(NamedTuple):
    """A column as text."""

    name: str
    right: bool
    """Whether its values are numbers, which line up at the right."""
    cells: list[str]


def shown_columns(rows: pa.Table) -> list[Column]:
    """The columns of a table as text for people."""
    result = []
    for field, values in zip(rows.schema, rows.columns, strict=True):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        right = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        text = not right
        result.append(
            Column(
                printable(field.name),
                right,
                [_shown(value, text=text) for value in json_values(values, _hexadecimal)],
            )
        )
    return result


def tsv_columns(rows: pa.Table) -> list[list[str | None]]:
    r"""The columns as text for programs: bytes as ``\x00ff``, nested values as JSON, null as None."""
    return [
        [_text_of(value) for value in json_values(values, lambda data: f"\\x{data.hex()}")]
        for values in rows.columns
    ]


def shown_value(values: pa.Array | None, kind: pa.DataType) -> str:
    """The first value of an array as text for people; nothing if there is no array."""
    if values is None:
        return ""
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return cut(_shown(json_values(values, _hexadecimal)[0], text=not number), CUT_WIDTH)


class _Bytes(str):
    """Bytes as text that is not to be quoted."""

    __slots__ = ()


def _hexadecimal(data: bytes) -> str:
    return _Bytes(f"x'{data[: LONG_CELL // 2].hex()}'")


def _shown(value: object, *, text: bool) -> str:
    if value is None:
        return "null"
    if isinstance(value, _Bytes):
        return value
    if not isinstance(value, str):
        return printable(_text_of(value) or "")
    value = value[:LONG_CELL]
    if text and (
        not value
        or value != value.strip()
        or value.lower() == "null"
        or value[0] == "'"
        or value[:2] == "x'"
    ):
        value = "'" + value.replace("'", "''") + "'"
    return printable(value)


def _text_of(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    return str(value)


def width_of(text: str) -> int:
    """Cells of a terminal; CJK characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, width: int) -> str:
    """The text in at most ``width`` cells, with ``…`` where some of it is missing."""
    if width_of(text) <= width:
        return text
    if text.isascii():
        return text[: width - 1] + "…"
    from rich.cells import set_cell_size

    return set_cell_size(text, width - 1).rstrip() + "…"


def padded(text: str, width: int, *, right: bool) -> str:
    """The text in exactly ``width`` cells."""
    text = cut(text, width)
    blank = " " * (width - width_of(text))
    return blank + text if right else text + blank


def grid_lines(columns: Sequence[Column], width: int) -> Iterator[str]:
    """A table of as many columns as fit ``width`` cells, and a line that names the others."""
    widths = _widths(columns, width)
    shown = columns[: len(widths)]
    yield GAP.join(
        padded(column.name, size, right=column.right)
        for column, size in zip(shown, widths, strict=True)
    ).rstrip()
    yield GAP.join("─" * size for size in widths)
    for row in zip(*(column.cells for column in shown), strict=True):
        yield GAP.join(
            padded(cell, size, right=column.right)
            for cell, size, column in zip(row, widths, shown, strict=True)
        ).rstrip()
    hidden = columns[len(widths) :]
    if hidden:
        yield from _others([column.name for column in hidden], width)


def _others(names: Sequence[str], width: int) -> Iterator[str]:
    text = f"+ {len(names)} more column{'s' * (len(names) != 1)}: " + ", ".join(names)
    yield cut(text, width)
    yield cut("--columns chooses, --vertical and --json show all", width)


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    """The widths of the leading columns that fit; of one at least."""
    natural = [max(map(width_of, [column.name, *column.cells])) for column in columns]
    if sum(natural) + len(GAP) * (len(natural) - 1) <= width:
        return natural
    least = [min(size, CUT_WIDTH) for size in natural]
    fitting, used = 0, -len(GAP)
    while fitting < len(least) and used + len(GAP) + least[fitting] <= width:
        used += len(GAP) + least[fitting]
        fitting += 1
    if fitting < len(least) and width - used - len(GAP) >= LEAST_WIDTH:
        # One more, cut further, is worth more than an empty edge.
        least[fitting] = min(least[fitting], width - used - len(GAP))
        used += len(GAP) + least[fitting]
        fitting += 1
    if fitting == 0:
        return [min(natural[0], width)]
    widths = least[:fitting]
    for index in range(fitting):
        more = min(natural[index] - widths[index], width - used)
        widths[index] += more
        used += more
    return widths


def vertical_lines(columns: Sequence[Column], width: int) -> Iterator[str]:
    """One line per value, row after row: for rows wider than any screen."""
    name_width = min(max((width_of(column.name) for column in columns), default=0), width // 2)
    for number, row in enumerate(zip(*(column.cells for column in columns), strict=True)):
        head = f"── row {number + 1} "
        yield head + "─" * max(0, min(width, 60) - len(head))
        for column, cell in zip(columns, row, strict=True):
            yield padded(column.name, name_width, right=False) + GAP + cell
