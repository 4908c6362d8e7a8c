"""Texts that are longer than their CHAR or VARCHAR, and lists that are no VECTOR of its length, at every depth.

Arrow has one type for those of every length. Of texts characters count, and of a CHAR no blanks at the end. What
is inside a null, as a field of a null struct, is not looked at: nobody can see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import UsageError
from fletching.protocol.types.arrow_types import ODPS_TYPE_KEY, odps_type_of_field
from fletching.protocol.types.conversion import map_entries
from fletching.protocol.types.odps_types import LENGTH_LIMITS, OdpsType, TypeCode
from fletching.protocol.types.row_selection import plain_values

__all__ = ["DeclaredLengths"]

_WITH_LENGTH = {*LENGTH_LIMITS, TypeCode.VECTOR}
_TEXT_IDS = {pa.string().id, pa.large_string().id}


class DeclaredLengths:
    """The columns of a schema whose values have a length, looked up once."""

    def __init__(self, fields: Iterable[pa.Field]) -> None:
        """Takes the columns as the table declares them; without metadata none has a length."""
        self._wanted: list[tuple[int, str, OdpsType]] = []
        # Wide tables have few types, and to look at one takes ten times as long as to find it here.
        flat: dict[tuple[bytes, int], OdpsType] = {}
        for number, field in enumerate(fields):
            text = (field.metadata or {}).get(ODPS_TYPE_KEY)
            if text is None:
                continue
            key = text, field.type.id
            kind = flat.get(key)
            if kind is None:
                kind = odps_type_of_field(field)
                if not kind.fields:
                    flat[key] = kind
            if _has_length(kind):
                self._wanted.append((number, field.name, kind))

    def check(self, column: Callable[[int], pa.Array | None]) -> None:
        """Checks a batch; see `RequiredValues.check`.

        Raises:
            UsageError: a text is too long, or a list too long or short; names the place.
        """
        for number, name, kind in self._wanted:
            array = column(number)
            if array is not None and not _surely_fits(array, kind):
                _check(array, kind, name)


def _has_length(kind: OdpsType) -> bool:
    if not kind.fields:
        return kind.code in _WITH_LENGTH
    return any(each.code in _WITH_LENGTH for each in kind.walk())


def _surely_fits(array: pa.Array, kind: OdpsType) -> bool:
    """Whether all texts together have no more bytes than one may have characters, as in small batches.

    To ask how long their buffer is takes a hundredth of looking at the texts.
    """
    if kind.length is None or array.type.id not in _TEXT_IDS:
        return False
    data = array.buffers()[-1]
    return data is None or bool(data.size <= kind.length)


def _check(array: pa.Array, kind: OdpsType, path: str) -> None:
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    array = plain_values(array)
    if array.null_count == len(array):
        return
    if kind.code in LENGTH_LIMITS:
        _check_texts(array, kind, path)
    elif kind.code is TypeCode.STRUCT:
        visible = array.filter(array.is_valid()) if array.null_count else array
        numbers = {visible.type.field(i).name.casefold(): i for i in range(visible.type.num_fields)}
        for child in kind.fields:
            number = numbers.get(child.name.casefold())
            if number is not None and _has_length(child.type):
                _check(visible.field(number), child.type, f"{path}.{child.name}")
    elif kind.code is TypeCode.MAP:
        entries = map_entries(array).flatten()
        for i, (child, part) in enumerate(zip(kind.fields, ("key", "value"), strict=True)):
            if _has_length(child.type):
                _check(entries.field(i), child.type, f"{path}.{part}")
    elif kind.code is TypeCode.VECTOR:
        _check_lists(array, kind, path)
    else:
        _check(array.flatten(), kind.fields[0].type, f"{path}.element")


def _check_lists(array: pa.Array, kind: OdpsType, path: str) -> None:
    lengths = pc.min_max(pc.list_value_length(array)).as_py()
    for length in lengths.values():
        if length != kind.length:
            raise UsageError(
                f"column {path!r} takes lists of {kind.length} elements, and the data has one of {length}"
            )


def _check_texts(array: pa.Array, kind: OdpsType, path: str) -> None:
    if pa.types.is_string_view(array.type):
        array = array.cast(pa.large_string())
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        return  # it does not become a text as it is
    limit = kind.length or 0
    if (pc.max(pc.binary_length(array)).as_py() or 0) <= limit:
        return  # a character has one byte or more
    if kind.code is TypeCode.CHAR:
        array = pc.utf8_rtrim(array, " ")
    longest = pc.max(pc.utf8_length(array)).as_py() or 0
    if longest > limit:
        raise UsageError(
            f"column {path!r} takes texts of up to {limit} characters, and the data has one of {longest}"
        )
