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

import numpy as np
import pyarrow as pa

from fletching.errors import InvalidDataError, LimitExceededError
from fletching.ipc.relabelling import relabelled_batch
from fletching.ipc.type_tree import any_below, with_children

__all__ = ["BatchValidator", "relaxed_type", "validate"]

SHOWN_BYTES: Final = 1 << 30
"""What the text views of one array may show in all, beside sixteen times the bytes that are there."""
SMALL_BYTES: Final = 128 << 10
"""Up to so many, a check in full takes no longer than a look at the arrays under another schema.

Nor can text views of so few bytes show more than `SHOWN_BYTES`: a view takes 16 bytes, and shows all at most.
"""
# pyarrow's texts quote the offending value; ours name no data.
_VALUE: Final = re.compile(r"(Decimal value |(?:date|time)(?:32|64)\[\w+\] )-?\d+")


def is_constrained(data_type: pa.DataType) -> bool:
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
    return any_below(data_type, lambda child: is_constrained(child) or (text and _is_text(child)))


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
    if is_constrained(data_type):
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
        self._relaxed: pa.Schema | None = None
        relaxed = schema
        for index, given in enumerate(schema.types):
            data_type = given if values else relaxed_type(given)
            if not text:
                data_type = relaxed_type(data_type, text=True)
            if data_type is not given and data_type != given:
                field = schema.field(index)
                # A plain field: metadata that names an extension type would bring its checks back.
                relaxed = relaxed.set(index, pa.field(field.name, data_type, field.nullable))
        if relaxed is not schema:
            self._relaxed = relaxed
        self._shown = (
            [number for number, kind in enumerate(schema.types) if any_below(kind, _types_shown)]
            if text
            else []
        )

    def check(self, batch: pa.RecordBatch, size: int | None = None) -> None:
        """Checks a batch.

        Args:
            batch: as read.
            size: its bytes, if they are known: small batches are checked in full at first, which
                most of them pass, because looking at them as other types takes longer.

        Raises:
            InvalidDataError: what is wrong, and in which column.
            LimitExceededError: text views show the same bytes so often that checking would not end.
        """
        if self._shown and batch.get_total_buffer_size() > SMALL_BYTES:
            for number in self._shown:
                _check_shown(batch.column(number))
        if self._relaxed is None:
            _run(batch, full=True)
            return
        if size is not None and size <= SMALL_BYTES:
            try:
                batch.validate(full=True)
            except (pa.ArrowException, ValueError):
                pass  # the values may be all that is wrong: look at it without them
            else:
                return
        _run(batch, full=False)
        _run(_reinterpreted(batch, self._relaxed), full=True)


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
    BatchValidator(batch.schema, values=values).check(batch)


def _types_shown(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(data_type))


def _check_shown(array: pa.Array) -> None:
    """Refuses views that show what others show, over and over: each would be checked as text."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        _check_shown(array.storage)
    elif pa.types.is_dictionary(kind):
        _check_shown(array.dictionary)
    elif _types_shown(kind):
        _, views, *data = array.buffers()
        words = np.frombuffer(views or b"", np.int32)
        lengths = words[: len(words) // 4 * 4].reshape(-1, 4)[array.offset :, 0][: len(array)]
        shown = int(lengths.sum(dtype=np.int64))
        limit = SHOWN_BYTES + 16 * sum(buffer.size for buffer in data)
        if shown > limit:
            raise LimitExceededError(
                "text views show the same bytes too often",
                layer="values",
                actual=shown,
                limit=limit,
            )
    elif any_below(kind, _types_shown):
        if pa.types.is_struct(kind) or pa.types.is_union(kind):
            for number in range(kind.num_fields):
                _check_shown(array.field(number))
        elif hasattr(array, "values"):
            _check_shown(array.values)


def _reinterpreted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch's buffers under another schema. Importing takes text's length from its offsets.

    So the batch itself must have passed the check of its sizes, which looks at the last offset.
    """
    try:
        return relabelled_batch(batch, schema)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise _invalid(error) from None


def _run(batch: pa.RecordBatch, *, full: bool) -> None:
    try:
        batch.validate(full=full)
    except (pa.ArrowException, ValueError) as error:
        raise _invalid(error) from None


def _invalid(error: Exception) -> InvalidDataError:
    return InvalidDataError(_VALUE.sub(r"\1(not shown)", str(error)), layer="values")
