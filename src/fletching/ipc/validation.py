"""Checking the contents of arrays that were read from somebody else's bytes.

Two levels. *Memory-safe*: no offset, index, view, run end or type id leads outside the arrays, text
is UTF-8 (readers in other languages take that for granted), null counts are right: nothing that
touches the array can crash or read foreign memory. *Value-valid*: also each value is one its type
allows: dates in milliseconds fall on whole days, times lie within a day, decimals fit their
precision. Old writers produced files that fail only the second level.
"""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa

from fletching.errors import InvalidDataError
from fletching.ipc.relabelling import relabelled
from fletching.ipc.type_tree import any_below, with_children

__all__ = ["BatchValidator", "relaxed_type", "validate"]


# pyarrow's texts quote the offending value; ours name no data.
_VALUE: Final = re.compile(r"(Decimal value |(?:date|time)(?:32|64)\[\w+\] )-?\d+")


def _is_constrained(data_type: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_date64(data_type) or types.is_time(data_type) or types.is_decimal(data_type)
    )


def _is_text(data_type: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(data_type)
        or types.is_large_string(data_type)
        or types.is_string_view(data_type)
    )


def has_constrained(data_type: pa.DataType, *, text: bool = False) -> bool:
    """Whether the type, or one below it, does not allow every bit pattern of its width.

    With ``text`` also whether there is text, which must be UTF-8.
    """
    return any_below(data_type, lambda one: _is_constrained(one) or (text and _is_text(one)))


def relaxed_type(data_type: pa.DataType, *, text: bool = False) -> pa.DataType:
    """The type of the same layout in which constrained values are plain integers or bytes.

    With ``text`` texts are bytes, too.
    """
    types = pa.types
    if not has_constrained(data_type, text=text):
        return data_type
    if isinstance(data_type, pa.BaseExtensionType):
        return relaxed_type(data_type.storage_type, text=text)
    if types.is_dictionary(data_type):
        return pa.dictionary(
            data_type.index_type, relaxed_type(data_type.value_type, text=text), data_type.ordered
        )
    if _is_constrained(data_type):
        return pa.binary(data_type.bit_width // 8)
    if types.is_string(data_type):
        return pa.binary()
    if types.is_large_string(data_type):
        return pa.large_binary()
    if types.is_string_view(data_type):
        return pa.binary_view()
    return with_children(data_type, lambda child: relaxed_type(child, text=text))


class BatchValidator:
    """The checks for batches of one schema, chosen once: looking at types takes longer than batches do.

    Args:
        schema: of the batches.
        values: also check that values are what their types allow.
        text: also check that text is UTF-8, which takes ten times as long as everything else. Without
            it offsets are known to be safe, and text is as good as its writer's word.
    """

    def __init__(self, schema: pa.Schema, *, values: bool = False, text: bool = True) -> None:
        relax = [not values and has_constrained(data_type) for data_type in schema.types]
        if not text:
            relax = [
                wanted or has_constrained(data_type, text=True)
                for wanted, data_type in zip(relax, schema.types, strict=True)
            ]
        # Per column: its name, whether its size is all there is to check, its relaxed type.
        self._columns = [
            (
                field.name,
                wanted and _is_constrained(field.type),
                relaxed_type(field.type, text=not text) if wanted else None,
            )
            for field, wanted in zip(schema, relax, strict=True)
        ]
        self._whole = not any(relax)

    def check(self, batch: pa.RecordBatch) -> None:
        """Checks a batch.

        Raises:
            InvalidDataError: what is wrong, and in which column.
        """
        _run(batch, full=self._whole)
        if self._whole:
            return
        for index, (name, sized, relaxed) in enumerate(self._columns):
            if sized:
                continue  # fixed width: the check of the whole batch has seen its sizes
            column = _column(batch, index)
            if column is None:
                continue
            if relaxed is not None:
                column = _viewed(column, relaxed, name)
            _run(column, full=True, name=name)


def validate(batch: pa.RecordBatch, *, values: bool = True) -> None:
    """Checks a record batch in full before anything touches its elements.

    Runs in time linear in the data, at several GB/s for fixed-width and string columns; allocates
    nothing of their size.

    Args:
        batch: as read, from an untrusted source too.
        values: also check that values are what their types allow; without it the batch is known to
            be memory-safe only.

    Raises:
        InvalidDataError: what is wrong, and in which column.
    """
    if values or not any(has_constrained(data_type) for data_type in batch.schema.types):
        _run(batch, full=True)
        return
    _run(batch, full=False)
    for index, field in enumerate(batch.schema):
        # Column by column; the check just made is all that a flat constrained column needs.
        column = None if _is_constrained(field.type) else _column(batch, index)
        if column is not None:
            validate_array(column, field.name)


def _column(batch: pa.RecordBatch, index: int) -> pa.Array | None:
    """A column; None for a type that pyarrow has no Python class for, a fixed-width one of months."""
    try:
        return batch.column(index)
    except KeyError:
        return None


def validate_array(array: pa.Array, name: str) -> None:
    """The memory-safe level for one array; errors as for `validate`."""
    if not has_constrained(array.type):
        _run(array, full=True, name=name)
        return
    _run(array, full=False, name=name)
    if _is_constrained(array.type):
        return  # fixed width: the sizes are all there is to check
    _run(_viewed(array, relaxed_type(array.type), name), full=True, name=name)


def _viewed(array: pa.Array, data_type: pa.DataType, name: str) -> pa.Array:
    """The array's buffers under another type of the same layout."""
    try:
        return relabelled(array, data_type)
    except (pa.ArrowException, ValueError) as error:
        text = _VALUE.sub(r"\1(not shown)", str(error))
        raise InvalidDataError(f"column {name!r}: {text}", layer="values") from None


def _run(thing: pa.Array | pa.RecordBatch, *, full: bool, name: str | None = None) -> None:
    try:
        thing.validate(full=full)
    except (pa.ArrowException, ValueError) as error:
        where = "" if name is None else f"column {name!r}: "
        text = _VALUE.sub(r"\1(not shown)", str(error))
        raise InvalidDataError(f"{where}{text}", layer="values") from None
