"""Values as cells of a page: null, empty text, bytes, nested values and blobs are told apart."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import msgspec
import pyarrow as pa

from fletching.protocol.types.blob_type import is_blob
from fletching.protocol.types.json_values import json_values

__all__ = ["Cell", "cells_of", "clean", "references_of"]

CELL_CHARACTERS = 200
"""A longer value is cut on a page; the row's own page and downloads have all of it."""

PAGE_CHARACTERS = 40_000
"""Of all cells of a page: where there are more, cells are cut shorter."""

LEAST_CHARACTERS = 24

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Cell(msgspec.Struct, frozen=True, omit_defaults=True):
    """A value for a page.

    Attributes:
        text: it, as text.
        kind: what it is, which the style sheet shows.
        cut: whether the value is longer.
        media: of a blob: its media type.
        link: of a blob: a short-lived address of its bytes.
    """

    text: str
    kind: str
    cut: bool = False
    media: str = ""
    link: str = ""


class _Bytes(str):
    __slots__ = ()


def clean(text: str) -> str:
    """The text without characters that would act on a page or a terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def cells_of(rows: pa.Table, *, most: int = CELL_CHARACTERS) -> list[list[Cell]]:
    """The rows as cells, none longer than ``most`` characters; BLOB columns as their references."""
    columns = [
        json_values(values, lambda data: _hexadecimal(data, most)) for values in rows.columns
    ]
    while most > LEAST_CHARACTERS and _characters(columns, most) > PAGE_CHARACTERS:
        most //= 2
    return [[_cell(value, most) for value in row] for row in zip(*columns, strict=True)]


def _characters(columns: Sequence[Sequence[object]], most: int) -> int:
    return sum(
        min(most, len(value) if isinstance(value, str) else 2 * len(value))
        for column in columns
        for value in column
        if isinstance(value, str | list | dict)
    )


def _ascii(data: bytes) -> str:
    return data.decode("ascii", "replace")


def references_of(rows: pa.Table) -> dict[int, list[str | None]]:
    """The blob references of the columns that have them, by the column's place."""
    result: dict[int, list[str | None]] = {}
    for index, field in enumerate(rows.schema):
        if is_blob(field.type):
            result[index] = [
                None if value is None else str(value)
                for value in json_values(rows.column(index), _ascii)
            ]
    return result


def _hexadecimal(data: bytes, most: int) -> str:
    shown = max(1, most // 2)
    cut = f"… ({len(data):,} bytes)" if len(data) > shown else ""
    return _Bytes(f"x'{data[:shown].hex()}'{cut}")


def _cell(value: object, most: int) -> Cell:
    if value is None:
        return Cell("null", "null")
    if isinstance(value, bool):
        return Cell("true" if value else "false", "")
    if isinstance(value, int | float):
        return Cell(str(value), "number")
    if isinstance(value, list | dict):
        return _cut(json.dumps(value, ensure_ascii=False), "nested", most)
    if isinstance(value, _Bytes):
        return _cut(str(value), "bytes", most + 40)
    return _cut(str(value), "text", most) if value else Cell("empty text", "empty")


def _cut(text: str, kind: str, most: int) -> Cell:
    # Cleaned after it is cut: what is not shown need not be looked through.
    if len(text) <= most:
        return Cell(clean(text), kind)
    return Cell(clean(text[: most - 1]) + "…", kind, cut=True)
