"""Arrow values as JSON: the text forms that ``--json``, JSON lines files and plain HTTP share.

=============================  =========================================================
Arrow                          JSON
=============================  =========================================================
null                           ``null``
integers, booleans, text       as they are
floating point                 a number; ``"NaN"``, ``"Infinity"``, ``"-Infinity"`` as text
decimal                        text, all digits
binary                         text, base64
date, time, timestamp          text, ISO 8601; a zone as ``Z`` or ``+0100``
duration, interval             text, ISO 8601 (``PT1.5S``)
list                           array
struct                         object
map                            object if its keys are text, else an array of ``[key, value]``
=============================  =========================================================

JSON has no numbers that are not finite; text is what Protocol Buffers and BigQuery use for them too.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterator

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from fletching.protocol.types.row_selection import plain_values

__all__ = ["base64_text", "json_lines", "json_values"]

_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def base64_text(value: bytes) -> str:
    """The usual JSON form of bytes."""
    return base64.b64encode(value).decode("ascii")


def json_values(array: pa.Array, binary: Callable[[bytes], object] = base64_text) -> list[object]:
    """The values of an array as what `json.dumps` takes; nesting included.

    Times never become Python's own objects, whose range is smaller than Arrow's.

    Args:
        array: any array; a chunked one too.
        binary: what becomes of bytes.
    """
    if isinstance(array, pa.ChunkedArray):
        chunks = (json_values(chunk, binary) for chunk in array.chunks)
        return list(itertools.chain.from_iterable(chunks))
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return json_values(array.storage, binary)
    if pa.types.is_dictionary(kind):
        return json_values(plain_values(array), binary)
    if pa.types.is_run_end_encoded(kind):
        return json_values(plain_values(array), binary)
    if pa.types.is_floating(kind):
        return _floats(array)
    if pa.types.is_decimal(kind):
        # All digits of a decimal, none of them rounded.
        return list(array.cast(pa.string()).to_pylist())
    if _is_binary(kind):
        return [None if value is None else binary(value) for value in array.to_pylist()]
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind):
        return _times(array)
    if pa.types.is_duration(kind):
        per_second = _UNITS[kind.unit]
        return [
            None if value is None else _duration(value, per_second)
            for value in array.cast(pa.int64()).to_pylist()
        ]
    if pa.types.is_interval(kind):
        return [None if value is None else _interval(*value) for value in array.to_pylist()]
    if pa.types.is_struct(kind):
        return _structs(array, binary)
    if pa.types.is_map(kind):
        return _maps(array, binary)
    if _is_list(kind):
        values = iter(json_values(array.flatten(), binary))
        return [
            None if length is None else list(itertools.islice(values, length))
            for length in pc.list_value_length(array).to_pylist()
        ]
    return list(array.to_pylist())


def json_lines(batch: pa.RecordBatch) -> bytes:
    """One JSON object per row, each on a line of its own; column by column, then row by row.

    JSON is text per value: this is a format for people and small results, not for speed.
    """
    names = batch.schema.names
    columns = [json_values(column) for column in batch.columns]
    rows = zip(*columns, strict=True) if columns else itertools.repeat((), batch.num_rows)
    return msgspec.json.Encoder().encode_lines([dict(zip(names, row, strict=True)) for row in rows])


def _floats(array: pa.Array) -> list[object]:
    values: list[float | None] = array.to_pylist()
    if pc.all(pc.is_finite(array), min_count=0).as_py():
        return [*values]
    return [
        value if value is None or abs(value) < float("inf") else _special(value) for value in values
    ]


def _times(array: pa.Array) -> list[object]:
    # For people: down to the unit of the type, so that nothing is cut off.
    text = array.cast(pa.string())
    values: list[str | None] = pc.replace_substring(text, " ", "T").to_pylist()
    if not pc.any(pc.starts_with(text, "<"), min_count=0).as_py():
        return [*values]
    # Arrow writes years up to 32767; what lies beyond keeps its number.
    numbers = array.cast(pa.int64()).to_pylist()
    return [
        f"{number} {array.type.unit}" if value is not None and value.startswith("<") else value
        for value, number in zip(values, numbers, strict=True)
    ]


def _special(value: float) -> str:
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124  # NaN alone differs from itself


def _is_binary(kind: pa.DataType) -> bool:
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def _structs(array: pa.Array, binary: Callable[[bytes], object]) -> list[object]:
    names = [array.type.field(index).name for index in range(array.type.num_fields)]
    # field() keeps what lies under a null struct; flatten() gives nulls there, of the right length.
    columns = [json_values(child, binary) for child in array.flatten()]
    rows: Iterator[tuple[object, ...]] = (
        zip(*columns, strict=True) if columns else itertools.repeat((), len(array))
    )
    return [
        dict(zip(names, row, strict=True)) if valid else None
        for valid, row in zip(array.is_valid().to_pylist(), rows, strict=True)
    ]


def _maps(array: pa.Array, binary: Callable[[bytes], object]) -> list[object]:
    keys_are_text = pa.types.is_string(array.type.key_type) or pa.types.is_large_string(
        array.type.key_type
    )
    # The children are whole; offsets, which follow a slice, say where a row's pairs are.
    offsets = array.offsets.to_pylist()
    start, end = (offsets[0], offsets[-1]) if offsets else (0, 0)
    keys = json_values(array.keys[start:end], binary)
    items = json_values(array.items[start:end], binary)
    result: list[object] = []
    for valid, (first, last) in zip(
        array.is_valid().to_pylist(), itertools.pairwise(offsets), strict=True
    ):
        pairs = zip(
            keys[first - start : last - start], items[first - start : last - start], strict=True
        )
        if not valid:
            result.append(None)
        else:
            result.append(dict(pairs) if keys_are_text else [list(pair) for pair in pairs])
    return result


def _duration(value: int, per_second: int) -> str:
    sign = "-" if value < 0 else ""
    seconds, fraction = divmod(abs(value), per_second)
    digits = f".{fraction:0{len(str(per_second)) - 1}d}".rstrip("0") if fraction else ""
    return f"{sign}PT{seconds}{digits}S"


def _interval(months: int, days: int, nanoseconds: int) -> str:
    time = _duration(nanoseconds, 1_000_000_000)
    sign = "-" if time.startswith("-") else ""
    return f"P{months}M{days}DT{sign}{time.lstrip('-')[2:]}"
