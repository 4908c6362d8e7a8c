"""Python values as Arrow arrays of a column's type, exactly or not at all.

pyarrow's own conversion rounds, cuts and drops where a type asks for it: microseconds into
milliseconds, a moment into its day, a zone into none, fields of a dict that a struct lacks. Here
values are taken apart level by level (lists, maps, structs), the flat ones of one kind become the
Arrow array that has all of them, and `fletching.protocol.types.conversion` brings that to the wanted
type under its one rule.

A null is None, pandas' NA and NaT, or a null Arrow scalar. NaN is a float.

The module is long because what a value is, and which array it makes, is decided level by level in functions
that call each other.
"""

from __future__ import annotations

import datetime as dt
import decimal
import functools
import itertools
import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fletching.errors import UsageError
from fletching.ipc.constant_arrays import null_array
from fletching.ipc.relabelling import relabelled
from fletching.protocol.types.conversion import convert

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "column_array",
    "is_null",
    "map_pairs",
    "matched_items",
    "python_array",
    "struct_items",
]

MAX_TEXT_BYTES = 1 << 30
"""Texts of one array beyond which 64-bit offsets are used; 32-bit ones end at twice as much."""

_types = pa.types
_ABSENT = object()

Cells = Sequence[Any]
"""Values of one kind, or None: the kind is known from their classes, which a checker cannot follow."""


def column_array(values: object, field: pa.Field | None, name: str) -> pa.Array:
    """One column of a dict as an Arrow array, or a chunked one.

    Args:
        values: a list or other iterable of Python values, a numpy array, a pandas series, or Arrow
            data. What has types of its own keeps them (see `conversion` for what comes next).
        field: what the table has under the name; None if that is not known.
        name: for errors.

    Raises:
        UsageError: values that have no Arrow type, or that the field's type does not have.
    """
    target = None if field is None else field.type
    try:
        if isinstance(values, pa.Array | pa.ChunkedArray):
            return values
        if isinstance(values, np.ndarray):
            return _from_numpy(values, target, name)
        if _is_pandas_series(values):
            if np.dtype(object) == getattr(values, "dtype", None):
                return python_array(_pandas_objects(values), target, name)
            return pa.array(values, from_pandas=True)
        if hasattr(values, "__arrow_c_stream__"):
            return pa.chunked_array(values)
        if hasattr(values, "__arrow_c_array__") or hasattr(values, "__arrow_array__"):
            return pa.array(values)
        if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping):
            return python_array(list(values), target, name)
    except (pa.ArrowException, ValueError, TypeError, OverflowError, BufferError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"column {name!r} does not make an Arrow column: {error}") from error
    raise UsageError(f"column {name!r} is a {type(values).__name__}, not a list of values")


def _is_pandas_series(values: object) -> bool:
    return any(
        cls.__module__.partition(".")[0] == "pandas" and cls.__name__ in {"Series", "Index"}
        for cls in type(values).__mro__
    )


def _pandas_objects(series: pd.Series) -> list[object]:
    """The values of a column of objects, where pandas shows a missing one as NaN, too."""
    return [None if isinstance(v, float) and math.isnan(v) else v for v in series.tolist()]


def _from_numpy(values: NDArray[np.generic], target: pa.DataType, name: str) -> pa.Array:
    if values.dtype == object:
        return python_array(values.tolist(), target, name)
    if values.ndim == 2:
        flat = pa.array(values.reshape(-1))
        return pa.Array.from_buffers(
            pa.list_(flat.type, values.shape[1]), len(values), [None], children=[flat]
        )
    return pa.array(values)


def python_array(values: Sequence[object], target: pa.DataType, path: str) -> pa.Array:
    """Python values as an Arrow array.

    Args:
        values: of one column, or of one level of it.
        target: the wanted type; None for the one that the values have by themselves.
        path: of the column, for errors.

    Raises:
        UsageError: a value that the type does not have, or values of no common type.
    """
    try:
        return _array(values, target, path)
    except (pa.ArrowException, ValueError, TypeError, OverflowError, BufferError) as error:
        if isinstance(error, UsageError):
            raise
        wanted = "an Arrow type" if target is None else str(target)
        raise UsageError(f"column {path!r} has values that do not fit {wanted}: {error}") from error


def _array(values: Sequence[object], target: pa.DataType, path: str) -> pa.Array:
    if isinstance(target, pa.BaseExtensionType):
        return relabelled(_array(values, target.storage_type, path), target)
    if target is not None and (_types.is_dictionary(target) or _types.is_run_end_encoded(target)):
        return convert(_array(values, target.value_type, path), target, path)
    kinds = _kinds(values)
    if "null" in kinds.values() or "arrow" in kinds.values():
        values = [None if is_null(value) else value for value in values]
        kinds = _kinds(values)
    present = set(kinds.values()) - {"none"}
    if not present:
        return null_array(pa.null() if target is None else target, len(values))
    if present == {"arrow"}:
        result = _of_scalars(values)
        if result is not None:
            return result if target is None else convert(result, target, path)
    if "arrow" in present:
        plain = [value.as_py() if isinstance(value, pa.Scalar) else value for value in values]
        return _array(plain, target, path)
    if target is None:
        named = any(map(_is_named_tuple, kinds))
        target_kind = "list" if present <= {"list", "tuple"} and not named else min(present)
        target_kind = "dict" if named else target_kind
    else:
        target_kind = _target_kind(target)
    if target_kind == "list" and present <= {"list", "tuple"}:
        return _lists(values, target, path)
    if target_kind == "map" and present <= {"list", "tuple", "dict"}:
        return _maps(values, target, path)
    if target_kind == "dict" and present <= {"dict", "tuple"}:
        return _structs(values, target, path)
    nested = present & {"list", "tuple", "dict", "other"}
    if nested or target_kind in {"list", "map", "dict"}:
        shown = next(kind.__name__ for kind, what in kinds.items() if what in (nested or present))
        wanted = "value of the others' type" if target is None else str(target)
        raise UsageError(f"column {path!r} has a value of type {shown}, which is no {wanted}")
    return _flat(values, present, target, path)


# --- kinds of values ------------------------------------------------------------------------


def _kinds(values: Sequence[object]) -> dict[type, str]:
    """The Python types among the values, and what values of each are."""
    types: set[type] = set(map(type, values))
    return {item: _kind(item) for item in types}


@functools.lru_cache(maxsize=512)  # a class and a word each; a program has few
def _kind(kind: type) -> str:
    """What values of a Python type are."""
    if kind is type(None):
        return "none"
    if kind.__module__.partition(".")[0] == "pandas" and kind.__name__ in {"NAType", "NaTType"}:
        return "null"
    if issubclass(kind, pa.Scalar):
        return "arrow"
    for classes, name in _KINDS:
        if issubclass(kind, classes):
            return name
    return "other"


_KINDS: list[tuple[type | tuple[type, ...], str]] = [
    ((bool, np.bool_), "bool"),
    (np.timedelta64, "numpy duration"),  # which numpy counts among the integers
    ((int, np.integer), "int"),
    (np.longdouble, "other"),
    ((float, np.floating), "float"),
    (decimal.Decimal, "decimal"),
    (str, "text"),
    ((bytes, bytearray, memoryview), "binary"),
    (dt.datetime, "datetime"),
    (dt.date, "date"),
    (dt.time, "time"),
    (dt.timedelta, "duration"),
    (np.datetime64, "numpy datetime"),
    (uuid.UUID, "uuid"),
    (Mapping, "dict"),
    (tuple, "tuple"),
    ((list, np.ndarray, pa.Array, range), "list"),
]


def is_null(value: object) -> bool:
    """Whether a value that is not None says that there is none."""
    kind: type = type(value)
    return _kind(kind) == "null" or (isinstance(value, pa.Scalar) and not value.is_valid)


def _is_named_tuple(kind: type) -> bool:
    """Whether values of a type are tuples whose items have names, which then count and not their order."""
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def _target_kind(target: pa.DataType) -> str:
    if _types.is_map(target):
        return "map"
    if _types.is_struct(target):
        return "dict"
    return "list" if hasattr(target, "value_field") else "flat"


def _of_scalars(values: Sequence[Any]) -> pa.Array | None:
    """The array of Arrow scalars of one type; None if they are of several."""
    # pyarrow, given scalars of these types, makes no array of them and may crash.
    wrapped = (pa.DictionaryScalar, pa.RunEndEncodedScalar, pa.ExtensionScalar)
    plain = []
    for value in values:
        while isinstance(value, wrapped):
            value = value.value  # noqa: PLW2901 - what it is wrapped in is of no account
        plain.append(value)
    types = {value.type for value in plain if value is not None}
    return pa.array(plain, types.pop()) if len(types) == 1 else None


# --- flat values ----------------------------------------------------------------------------


def _flat(values: Cells, kinds: set[str], target: pa.DataType, path: str) -> pa.Array:
    groups = kinds
    if "datetime" in kinds:
        # A moment and a reading of a clock are different things, though one class has both.
        zoned = {value.tzinfo is not None for value in values if isinstance(value, dt.datetime)}
        groups = (kinds - {"datetime"}) | {"zoned" if zone else "datetime" for zone in zoned}
    if len(groups) == 1:
        result = _built(next(iter(groups)), values, target, path)
        return result if target is None else _converted(result, target, path)
    if target is None:
        if groups == {"int", "float"}:
            target = pa.float64()
        elif groups == {"int", "decimal"}:
            return pa.array(values)
        else:
            raise UsageError(
                f"column {path!r} has values of several kinds: {', '.join(sorted(groups))}"
            )
    # Each kind by itself, then every value to its place. Views can be neither joined nor taken.
    plain = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(target, target)
    parts: list[pa.Array] = []
    indices = np.full(len(values), -1, np.int64)
    total = 0
    for group in sorted(groups):
        chosen = [number for number, value in enumerate(values) if _group(value) == group]
        part = _built(group, [values[number] for number in chosen], plain, path)
        parts.append(_converted(part, plain, path))
        indices[chosen] = np.arange(total, total + len(chosen))
        total += len(chosen)
    order = pa.array(indices, mask=indices < 0)
    return _converted(pa.concat_arrays(parts).take(order), target, path)


def _built(group: str, values: Cells, target: pa.DataType, path: str) -> pa.Array:
    try:
        return _BUILDERS[group](values, target)
    except UsageError as error:
        raise UsageError(f"column {path!r}: {error.message}") from error


def _group(value: object) -> str:
    given: type = type(value)
    zoned = isinstance(value, dt.datetime) and value.tzinfo is not None
    kind = _kind(given)
    return "zoned" if kind == "datetime" and zoned else kind


def _converted(array: pa.Array, target: pa.DataType, path: str) -> pa.Array:
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if array.nbytes > MAX_TEXT_BYTES and target in {pa.string(), pa.binary()}:
        return array  # cut into several batches, each of which fits, before it is converted
    return convert(array, target, path)


def _ints(values: Cells, target: pa.DataType) -> pa.Array:
    if target is not None and _types.is_floating(target):
        given = [None if v is None else float(int(v)) for v in values]
        if any(v is not None and int(given[i]) != int(v) for i, v in enumerate(values)):  # type: ignore[arg-type]
            raise UsageError(f"an integer has no equal in {target}")
        return pa.array(given, pa.float64())
    try:
        return pa.array(values, pa.int64())
    except (OverflowError, pa.ArrowInvalid):
        wide = [None if v is None else decimal.Decimal(int(v)) for v in values]
        return pa.array(wide, pa.decimal256(76, 0))


def _decimals(values: Cells, target: pa.DataType) -> pa.Array:
    del target
    if not all(value is None or value.is_finite() for value in values):
        raise UsageError("NaN and infinities are values of floats, not of decimals")
    return pa.array(values)


def _texts(values: Cells, target: pa.DataType) -> pa.Array:
    del target
    long = sum(len(value) for value in values if value is not None) > MAX_TEXT_BYTES // 4
    return pa.array(values, pa.large_string() if long else pa.string())


def _binaries(values: Cells, target: pa.DataType) -> pa.Array:
    del target
    long = sum(memoryview(v).nbytes for v in values if v is not None) > MAX_TEXT_BYTES
    return pa.array(values, pa.large_binary() if long else pa.binary())


def _moments(values: Cells, zone: str | None) -> pa.Array:
    # pandas' moments count nanoseconds, which the class they descend from does not know.
    fine = any(getattr(value, "nanosecond", 0) for value in values)
    return pa.array(values, pa.timestamp("ns" if fine else "us", zone))


def _times(values: Cells, target: pa.DataType) -> pa.Array:
    del target
    if any(value is not None and value.tzinfo is not None for value in values):
        raise UsageError("a time of day with a zone has no Arrow type")
    return pa.array(values, pa.time64("us"))


def _durations(values: Cells, target: pa.DataType) -> pa.Array:
    del target
    fine = any(getattr(value, "nanoseconds", 0) for value in values)
    return pa.array(values, pa.duration("ns" if fine else "us"))


def _numpy_scalars(values: Cells, target: pa.DataType) -> pa.Array:
    """Each unit by itself: numpy brings several to the finest one, around the end of its range."""
    del target
    units = {value.dtype for value in values if value is not None}
    if len(units) > 1:
        raise UsageError("numpy's dates and durations are of several units")
    unit = units.pop()
    # As an array of numpy's: of its single dates pyarrow takes none.
    return pa.array(np.array([unit.type("NaT") if v is None else v for v in values], unit))


def _uuids(values: Sequence[Any], target: pa.DataType) -> pa.Array:
    if target is not None and (target in {pa.string(), pa.large_string(), pa.string_view()}):
        raise UsageError("a UUID is 16 bytes, which are no text: str() of it is")
    return pa.array([None if value is None else value.bytes for value in values], pa.binary(16))


_BUILDERS: dict[str, Callable[[Cells, pa.DataType], pa.Array]] = {
    "bool": lambda values, _: pa.array(values, pa.bool_()),
    "int": _ints,
    "float": lambda values, _: pa.array(values, pa.float64()),
    "decimal": _decimals,
    "text": _texts,
    "binary": _binaries,
    "datetime": lambda values, _: _moments(values, None),
    "zoned": lambda values, _: _moments(values, "UTC"),
    "date": lambda values, _: pa.array(values, pa.date32()),
    "time": _times,
    "duration": _durations,
    "numpy datetime": _numpy_scalars,
    "numpy duration": _numpy_scalars,
    "uuid": _uuids,
}


# --- nested values --------------------------------------------------------------------------


def _mask(values: Sequence[object]) -> pa.Array | None:
    return pa.array([value is None for value in values]) if None in map(_noneness, values) else None


def _noneness(value: object) -> bool | None:
    return None if value is None else True


def _list_offsets(lengths: Iterable[int]) -> pa.Array:
    return pa.array(itertools.accumulate(lengths, initial=0), pa.int64())


def _lists(values: Cells, target: pa.DataType, path: str) -> pa.Array:
    given = [value for value in values if value is not None]
    lengths = [0 if value is None else len(value) for value in values]
    inner = None if target is None else target.value_type
    dtypes = {value.dtype for value in given if isinstance(value, np.ndarray)}
    if (
        len(dtypes) == 1
        and object not in dtypes
        and all(isinstance(value, np.ndarray) and value.ndim == 1 for value in given)
    ):
        # Of arrays with masks numpy's own function would give what is under the masks.
        masked = any(hasattr(value, "mask") for value in given)
        elements = pa.array(np.ma.concatenate(given) if masked else np.concatenate(given))  # type: ignore[no-untyped-call]
    else:
        flat = list(itertools.chain.from_iterable(given))
        elements = python_array(flat, inner, f"{path}.element")
    listed = pa.LargeListArray.from_arrays(_list_offsets(lengths), elements, mask=_mask(values))
    if target is None:
        # Only the offsets change; those that 32 bits do not have are refused.
        return listed.cast(pa.list_(elements.type))
    return convert(listed, target, path)


def map_pairs(value: Iterable[object], path: str) -> list[tuple[object, object]]:
    """Key and value of each entry of a map, given as a dict, as pairs, or as dicts of the two.

    Raises:
        UsageError: an entry is of no such form.
    """
    if isinstance(value, Mapping):
        return list(value.items())
    pairs = []
    for pair in value:
        if isinstance(pair, Mapping) and set(pair) == {"key", "value"}:
            pairs.append((pair["key"], pair["value"]))
        elif isinstance(pair, list | tuple) and len(pair) == 2:
            pairs.append((pair[0], pair[1]))
        else:
            raise UsageError(f"column {path!r}: an entry of a map is a pair of key and value")
    return pairs


def _maps(values: Cells, target: pa.DataType, path: str) -> pa.Array:
    rows = [[] if value is None else map_pairs(value, path) for value in values]
    pairs = list(itertools.chain.from_iterable(rows))
    keys = python_array([key for key, _ in pairs], target.key_type, f"{path}.key")
    items = python_array([item for _, item in pairs], target.item_type, f"{path}.value")
    if keys.null_count:
        raise UsageError(f"column {path!r}: a key of a map is never null")
    # Exact: an offset that 32 bits do not have is refused.
    offsets = _list_offsets(map(len, rows)).cast(pa.int32())
    return pa.MapArray.from_arrays(offsets, keys, items, type=target, mask=_mask(values))


def matched_items(
    rows: Sequence[Mapping[str, object] | None], names: Sequence[str], path: str
) -> list[list[object]]:
    """Per field name, the value of each row that has it under that name in any case, else None.

    Raises:
        UsageError: a row has an item that is no field, or two for one field.
    """
    known = {name.casefold(): number for number, name in enumerate(names)}
    spellings: dict[str, int] = {}
    for spelling in dict.fromkeys(itertools.chain.from_iterable(row for row in rows if row)):
        number = known.get(spelling.casefold()) if isinstance(spelling, str) else None
        if number is None:
            shown = ", ".join(repr(name) for name in names[:20])
            raise UsageError(f"column {path!r} has no struct field {spelling!r}; it has {shown}")
        spellings[spelling] = number
    result: list[list[object]] = [[None] * len(rows) for _ in names]
    used: dict[int, list[bool]] = {}
    for spelling, number in spellings.items():
        column = result[number]
        several = sum(1 for other in spellings.values() if other == number) > 1
        seen = used.setdefault(number, [False] * len(rows)) if several else None
        for index, row in enumerate(rows):
            value = _ABSENT if row is None else row.get(spelling, _ABSENT)
            if value is _ABSENT:
                continue
            if seen is not None:
                if seen[index]:
                    raise UsageError(
                        f"column {path!r} has struct field {spelling!r} twice (case does not count)"
                    )
                seen[index] = True
            column[index] = value
    return result


def _structs(values: Cells, target: pa.DataType, path: str) -> pa.Array:
    if target is None:
        values = [struct_items(v, (), path) if isinstance(v, tuple) else v for v in values]
        names = list(dict.fromkeys(itertools.chain.from_iterable(v for v in values if v)))
        fields: list[pa.Field] = [None] * len(names)
    else:
        fields = [target.field(i) for i in range(target.num_fields)]
        names = [str(field.name) for field in fields]
    rows = [
        struct_items(value, names, path) if isinstance(value, tuple) else value for value in values
    ]
    columns = matched_items(rows, names, path)
    children = [
        python_array(column, None if field is None else field.type, f"{path}.{name}")
        for column, field, name in zip(columns, fields, names, strict=True)
    ]
    if target is None:
        return pa.StructArray.from_arrays(children, names=names, mask=_mask(values))
    return pa.StructArray.from_arrays(children, fields=fields, mask=_mask(values))


def struct_items(value: tuple[object, ...], names: Sequence[str], path: str) -> dict[str, object]:
    """A tuple as the struct whose fields it has in their order; one with names has them by these.

    Raises:
        UsageError: it has another number of them.
    """
    if _is_named_tuple(type(value)):
        return dict(zip(value._fields, value, strict=True))  # type: ignore[attr-defined]  # of named ones
    if len(value) != len(names):
        raise UsageError(f"column {path!r}: a tuple of {len(value)} is no struct of {len(names)}")
    return dict(zip(names, value, strict=True))
