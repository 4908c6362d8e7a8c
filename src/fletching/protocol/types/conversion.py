"""One rule for values that are of another Arrow type than the column they go into, or come from.

Everything that stores or sends values uses this module: the client before it sends, the service
before it stores, and reads by clients that know fewer types. Three outcomes for a pair of types:

- *as is*: the same buffers mean the same values (`Relation.AS_IS`); nothing is computed. Names of
  struct fields are compared in any case; names that only the format needs (a list's ``item``),
  nullability, metadata, a zone's name and extension types over one storage do not count.
- *exact*: each value that has its equal in the other type becomes it, and one that has none is
  refused (`Relation.EXACT`): `fletching.protocol.types.exact_values` for flat types. Encodings
  (dictionary, run-end), offset widths, views and kinds of lists are not values and always change.
- *refused*: the types have no values in common, or which one was meant would be a guess.

Structs match by field name in any case and order, at every depth. A field that the target has and
the source lacks is null if it may be; a field that the target lacks, a misspelt or a repeated one is
refused. Values under a null (the fields of a null struct, the range of a null list) are no values.

`reply` is the one place where a value may change, because the reader asked for it: units of time
made coarser for ODPS clients, zones left out, times of day and durations as counts.
"""

from __future__ import annotations

import enum
import functools
import itertools
from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import UsageError
from fletching.ipc.constant_arrays import null_array
from fletching.ipc.relabelling import relabelled
from fletching.protocol.types.exact_values import Family, MisfitError, exact, family, related, ticks
from fletching.protocol.types.row_selection import first_row, plain_values

__all__ = [
    "Relation",
    "column_plan",
    "convert",
    "convert_for_reply",
    "refusal",
    "relation",
    "same_layout",
    "sent_as_stored",
]

_types = pa.types


class Relation(enum.Enum):
    """What values of one type need to become values of another."""

    AS_IS = "as is"
    EXACT = "exact"
    REFUSED = "refused"


def relation(source: pa.DataType, target: pa.DataType) -> Relation:
    """How values of ``source`` become values of ``target``; the same for every value of the types."""
    if same_layout(source, target):
        return Relation.AS_IS
    return Relation.EXACT if refusal(source, target) is None else Relation.REFUSED


# --- types ----------------------------------------------------------------------------------


def _storage(data_type: pa.DataType) -> pa.DataType:
    while isinstance(data_type, pa.BaseExtensionType):
        data_type = data_type.storage_type
    return data_type


def _children(data_type: pa.DataType) -> list[pa.Field]:
    return [data_type.field(number) for number in range(data_type.num_fields)]


def _is_list(data_type: pa.DataType) -> bool:
    return bool(
        _types.is_list(data_type)
        or _types.is_large_list(data_type)
        or _types.is_fixed_size_list(data_type)
        or _types.is_list_view(data_type)
        or _types.is_large_list_view(data_type)
    )


def _is_truth(data_type: pa.DataType) -> bool:
    """Whether it is BOOLEAN, in bits or in bytes."""
    return bool(_types.is_boolean(data_type) or isinstance(data_type, pa.Bool8Type))


def _is_encoded(data_type: pa.DataType) -> bool:
    return bool(_types.is_dictionary(data_type) or _types.is_run_end_encoded(data_type))


def same_layout(source: pa.DataType, target: pa.DataType) -> bool:
    """Whether buffers of one type are, bit for bit, the same values of the other (`Relation.AS_IS`)."""
    return _same_layout(source, target, reply=False)


def sent_as_stored(stored: pa.DataType, sent: pa.DataType) -> bool:
    """Whether a reply of one type can be the stored buffers of another (see `convert_for_reply`)."""
    return _same_layout(stored, sent, reply=True)


def _same_layout(source: pa.DataType, target: pa.DataType, *, reply: bool) -> bool:
    source, target = _storage(source), _storage(target)
    if source.equals(target):
        return True
    if reply and (_types.is_time(source) or _types.is_duration(source)):
        return bool(_types.is_integer(target) and target.bit_width == source.bit_width)
    if source.id != target.id:
        return False
    if _types.is_timestamp(source):
        zones = (source.tz is None) == (target.tz is None)
        return bool(source.unit == target.unit and (reply or zones))
    if _types.is_dictionary(source):
        return source.index_type == target.index_type and _same_layout(
            source.value_type, target.value_type, reply=reply
        )
    if not source.num_fields or source.num_fields != target.num_fields:
        return False
    if _types.is_fixed_size_list(source) and source.list_size != target.list_size:
        return False
    if _types.is_union(source) and source.type_codes != target.type_codes:
        return False
    named = not reply and (_types.is_struct(source) or _types.is_union(source))
    return all(
        (not named or a.name.casefold() == b.name.casefold())
        and _same_layout(a.type, b.type, reply=reply)
        for a, b in zip(_children(source), _children(target), strict=True)
    )


def column_plan(
    source: Sequence[pa.Field],
    target: Sequence[pa.Field],
    *,
    what: str,
    fixed: Collection[str] = (),
) -> tuple[int | None, ...]:
    """Per target field the number of the source field that fills it; None is filled with null.

    Args:
        source: fields of the data.
        target: fields of what is written.
        what: "column" or "struct field", for the error.
        fixed: case-folded names of columns that the data must not have, since the partition says their values.

    Raises:
        UsageError: a field that the target lacks, two of one name, or one that is missing and not
            nullable. Types are not looked at.
    """
    numbers: dict[str, int] = {}
    for number, field in enumerate(source):
        if numbers.setdefault(field.name.casefold(), number) != number:
            raise UsageError(f"the data has two {what}s named {field.name!r} (case does not count)")
    plan: list[int | None] = []
    for field in target:
        result = numbers.pop(field.name.casefold(), None)
        if result is None and not field.nullable:
            raise UsageError(f"the data lacks {what} {field.name!r}, which is not nullable")
        plan.append(result)
    if numbers:
        given = [source[i].name for folded, i in numbers.items() if folded in fixed]
        if given:
            raise UsageError(
                f"the data has {what} {given[0]!r}, whose value the partition says already: leave it out of the"
                " data, or out of the partition, and each row goes to its own"
            )
        unknown = ", ".join(repr(source[i].name) for i in list(numbers.values())[:10])
        known = ", ".join(repr(field.name) for field in target[:20])
        raise UsageError(f"the table has no {what} {unknown}; it has {known}")
    return tuple(plan)


def refusal(source: pa.DataType, target: pa.DataType) -> str | None:
    """Why no value of one type can become one of the other, or None if `convert` knows a way."""
    if _is_truth(source) and _is_truth(target):
        return None
    if _counts_periods(source) and not source.equals(target):
        return "periods are numbered since 1970, which no other type means by its numbers"
    return _refusal(_storage(source), _storage(target))


def _counts_periods(data_type: pa.DataType) -> bool:
    """Whether values are pandas' periods, whose storage says nothing by itself: 600 is a month, or a day."""
    return (
        isinstance(data_type, pa.BaseExtensionType) and data_type.extension_name == "pandas.period"
    )


# Pairs of types, a sentence each; of storage types, as extension types need not be hashable.
@functools.lru_cache(maxsize=4096)
def _refusal(source: pa.DataType, target: pa.DataType) -> str | None:
    if _types.is_null(source) or same_layout(source, target):
        return None
    if _is_encoded(source):
        return refusal(source.value_type, target)
    if _is_encoded(target):
        return refusal(source, target.value_type)
    if related(source, target):
        return None
    if _is_list(source) and _is_list(target):
        return refusal(source.value_type, target.value_type)
    if _types.is_map(source) and _types.is_map(target):
        return refusal(source.key_type, target.key_type) or refusal(
            source.item_type, target.item_type
        )
    if _types.is_struct(source) and _types.is_struct(target):
        return _struct_refusal(source, target)
    return f"{source} does not become {target}"


def _struct_refusal(source: pa.DataType, target: pa.DataType) -> str | None:
    fields = _children(source)
    try:
        plan = column_plan(fields, _children(target), what="struct field")
    except UsageError as error:
        return error.message
    for number, field in zip(plan, _children(target), strict=True):
        why = None if number is None else refusal(fields[number].type, field.type)
        if why is not None:
            return f"struct field {field.name!r}: {why}"
    return None


# --- values ---------------------------------------------------------------------------------


def convert(array: pa.Array, target: pa.DataType, column: str) -> pa.Array:
    """The same values in another type; shares what need not change, copies the rest.

    Args:
        array: the values.
        target: the wanted type.
        column: the column's name, for the error.

    Raises:
        UsageError: the types have no values in common, or a value has no equal in the target.
    """
    why = refusal(array.type, target)
    if why is not None:
        raise UsageError(f"column {column!r} is {array.type} and cannot become {target}: {why}")
    try:
        return _convert(array, target, reply=False)
    except MisfitError as misfit:
        row = first_row(array, lambda part: _misfits(part, target))
        raise UsageError(
            f"column {column!r} is {array.type} and cannot become {target}: "
            f"the value of row {row} {misfit}"
        ) from misfit
    except (pa.ArrowException, ValueError, TypeError, NotImplementedError) as error:
        raise UsageError(
            f"column {column!r} is {array.type} and cannot become {target}: {error}"
        ) from error


def convert_for_reply(array: pa.Array, sent: pa.DataType, column: str) -> pa.Array:
    """Stored values as an ODPS client expects them; shares what need not change.

    Coarser units of time are cut towards zero, zones left out, times and durations become counts.

    Raises:
        UsageError: a value does not fit, e.g. a year that nanoseconds cannot count.
    """
    try:
        return _convert(array, sent, reply=True)
    except (MisfitError, pa.ArrowException, ValueError, TypeError, NotImplementedError) as error:
        raise UsageError(
            f"column {column!r} has values that do not fit {sent}, the type asked for; read it in"
            " its stored type or unit"
        ) from error


def _misfits(array: pa.Array, target: pa.DataType) -> bool:
    try:
        _convert(array, target, reply=False)
    except MisfitError:
        return True
    return False


def _convert(array: pa.Array, target: pa.DataType, *, reply: bool) -> pa.Array:
    if array.type.equals(target):
        return relabelled(array, target)
    if _types.is_boolean(array.type) and isinstance(target, pa.Bool8Type):
        # False is 0, true is 1.
        return target.wrap_array(array.cast(pa.int8()))
    if isinstance(array.type, pa.Bool8Type) and _types.is_boolean(target):
        return pc.not_equal(array.storage, 0)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if isinstance(target, pa.BaseExtensionType):
        return target.wrap_array(_convert(array, target.storage_type, reply=reply))
    source = array.type
    if _same_layout(source, target, reply=reply):
        return relabelled(array, target)
    if _types.is_null(source):
        return null_array(target, len(array))
    if _types.is_dictionary(source):
        if _types.is_dictionary(target):
            return _recoded(array, target, reply=reply)
        return _convert(plain_values(array), target, reply=reply)
    if _types.is_run_end_encoded(source):
        return _convert(plain_values(array), target, reply=reply)
    if _types.is_dictionary(target):
        # Only the indices change; one that their type does not have is refused.
        return _convert(array, target.value_type, reply=reply).dictionary_encode().cast(target)
    if _types.is_run_end_encoded(target):
        values = _convert(array, target.value_type, reply=reply)
        return relabelled(pc.run_end_encode(values, target.run_end_type), target)
    if _types.is_struct(source) and _types.is_struct(target):
        return _convert_struct(array, target, reply=reply)
    if _is_list(source) and _is_list(target):
        return _convert_list(array, target, reply=reply)
    if _types.is_map(source) and _types.is_map(target):
        return _convert_map(array, target, reply=reply)
    if reply:
        return _flat_for_reply(array, target)
    return exact(array, target)


def _flat_for_reply(array: pa.Array, target: pa.DataType) -> pa.Array:
    kinds = family(array.type), family(target)
    if set(kinds) <= {Family.TIMESTAMP, Family.ZONED_TIMESTAMP}:
        return ticks(array, target, truncate=True)
    if related(array.type, target):
        return exact(array, target)
    raise MisfitError(f"does not become {target}")


def _recoded(array: pa.Array, target: pa.DataType, *, reply: bool) -> pa.Array:
    """A dictionary array with other indices or values, without decoding it where that can be."""
    try:
        return pa.DictionaryArray.from_arrays(
            # An index that the type does not have is refused.
            array.indices.cast(target.index_type),
            _convert(array.dictionary, target.value_type, reply=reply),
            ordered=target.ordered,
        )
    except (MisfitError, pa.ArrowException):
        # A value that no row has, or indices that only this dictionary needs to be so wide.
        plain = _convert(plain_values(array), target.value_type, reply=reply)
        # Only the indices change; one that their type does not have is refused.
        return plain.dictionary_encode().cast(target)


def _null_mask(array: pa.Array) -> pa.Array:
    return array.is_null() if array.null_count else None


def _visible_child(array: pa.Array, number: int) -> pa.Array:
    """A struct's child, null where the struct is: what stands there is no value of anybody's."""
    child = array.field(number)
    if not array.null_count or _types.is_null(child.type) or _types.is_union(child.type):
        return child
    if _types.is_run_end_encoded(child.type):
        child = plain_values(child)
    if isinstance(child, pa.ExtensionArray):
        child = child.storage
    plain = pa.StructArray.from_arrays([child], names=["child"], mask=array.is_null())
    return plain.flatten()[0]


def _convert_struct(array: pa.Array, target: pa.DataType, *, reply: bool) -> pa.Array:
    fields = _children(target)
    plan = column_plan(_children(array.type), fields, what="struct field")
    children = [
        null_array(field.type, len(array))
        if number is None
        else _convert(_visible_child(array, number), field.type, reply=reply)
        for number, field in zip(plan, fields, strict=True)
    ]
    return pa.StructArray.from_arrays(children, fields=fields, mask=_null_mask(array))


def _convert_list(array: pa.Array, target: pa.DataType, *, reply: bool) -> pa.Array:
    values = _convert(array.flatten(), target.value_type, reply=reply)
    mask = _null_mask(array)
    if _types.is_fixed_size_list(target):
        return _fixed_size(array, values, target)
    wide = bool(_types.is_large_list(target) or _types.is_large_list_view(target))
    offsets = _offsets(array, pa.int64() if wide else pa.int32())
    if _types.is_list(target):
        return pa.ListArray.from_arrays(offsets, values, target, mask=mask)
    if _types.is_large_list(target):
        return pa.LargeListArray.from_arrays(offsets, values, target, mask=mask)
    kind = pa.LargeListViewArray if wide else pa.ListViewArray
    return kind.from_arrays(
        offsets[:-1], pc.subtract(offsets[1:], offsets[:-1]), values, type=target, mask=mask
    )


def _fixed_size(array: pa.Array, values: pa.Array, target: pa.DataType) -> pa.Array:
    lengths = pc.drop_null(pc.list_value_length(array))
    if len(lengths) and not pc.all(pc.equal(lengths, target.list_size)).as_py():
        raise MisfitError(f"has another length than {target.list_size}")
    if not array.null_count:
        return pa.Array.from_buffers(target, len(array), [None], children=[values])
    # Null rows take room as well. Work per run of null rows; pyarrow's cast knows fewer types.
    valid = array.is_valid()
    flags = valid.to_numpy(zero_copy_only=False)
    edges = np.flatnonzero(np.diff(flags)) + 1
    parts, used = [], 0
    for start, end in itertools.pairwise([0, *edges.tolist(), len(flags)]):
        count = (end - start) * target.list_size
        if flags[start]:
            parts.append(values.slice(used, count))
            used += count
        else:
            parts.append(null_array(target.value_type, count))
    bitmap = pa.py_buffer(np.packbits(flags, bitorder="little").tobytes())
    return pa.Array.from_buffers(
        target, len(array), [bitmap], array.null_count, children=[pa.concat_arrays(parts)]
    )


def _offsets(array: pa.Array, data_type: pa.DataType) -> pa.Array:
    """Where each list's elements start in ``array.flatten()``, and where the last one's end."""
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(array) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    if data_type.bit_width == 32 and offsets[-1] > np.iinfo(np.int32).max:
        raise MisfitError("has more elements than 32-bit offsets count")
    return pa.array(offsets.astype(data_type.to_pandas_dtype(), copy=False), data_type)


def _convert_map(array: pa.Array, target: pa.DataType, *, reply: bool) -> pa.Array:
    listed = map_entries(array)
    entries = listed.flatten()
    return pa.MapArray.from_arrays(
        _offsets(listed, pa.int32()),
        _convert(entries.field(0), target.key_type, reply=reply),
        _convert(entries.field(1), target.item_type, reply=reply),
        type=target,
        mask=_null_mask(array),
    )


def map_entries(array: pa.Array) -> pa.Array:
    """A map array as the list array of its entries, which it is. Copies nothing."""
    data_type = array.type
    return relabelled(array, pa.list_(pa.struct([data_type.key_field, data_type.item_field])))
