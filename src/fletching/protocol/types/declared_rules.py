"""What declared types ask of values that Arrow's do not, at every depth: lengths of texts and lists, and JSON.

Arrow has one type for texts of every CHAR, VARCHAR and JSON, and for lists of every VECTOR. Of texts characters
count, and of a CHAR no blanks at the end. What is inside a null, as a field of a null struct, is not looked at:
nobody can see it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import UsageError
from fletching.ipc.type_tree import is_flat
from fletching.protocol.types.arrow_types import ODPS_TYPE_KEY, odps_type_of_field
from fletching.protocol.types.conversion import convert, map_entries
from fletching.protocol.types.json_texts import json_refusal
from fletching.protocol.types.odps_types import LENGTH_LIMITS, OdpsType, TypeCode
from fletching.protocol.types.row_selection import distinct_values, first_row

__all__ = ["DeclaredRules"]

_RULED = {*LENGTH_LIMITS, TypeCode.VECTOR, TypeCode.JSON}
_TEXT_IDS = {pa.string().id, pa.large_string().id}


class DeclaredRules:
    """The columns of a schema whose types ask something of their values, looked up once."""

    def __init__(self, fields: Iterable[pa.Field], *, documents: bool = True) -> None:
        """Takes the columns as the table declares them: in their metadata, or as Arrow's own type of JSON.

        Args:
            fields: the columns.
            documents: whether to look into JSON, which takes several times as long as storing it.
        """
        self._codes = _RULED if documents else _RULED - {TypeCode.JSON}
        self._wanted: list[tuple[int, str, OdpsType]] = []
        # Wide tables have few types, and to look at one takes ten times as long as to find it here.
        flat: dict[tuple[bytes, int], OdpsType] = {}
        for number, field in enumerate(fields):
            text = (field.metadata or {}).get(ODPS_TYPE_KEY)
            if text is None and not _has_json(field.type):
                continue
            key = text or b"", field.type.id
            kind = flat.get(key)
            if kind is None:
                kind = odps_type_of_field(field)
                if not kind.fields:
                    flat[key] = kind
            if self._asks(kind):
                self._wanted.append((number, field.name, kind))

    def check(self, column: Callable[[int], pa.Array | None]) -> None:
        """Checks a batch; see `RequiredValues.check`.

        Raises:
            UsageError: a text is too long or no JSON, or a list too long or short; names the place.
        """
        for number, name, kind in self._wanted:
            array = column(number)
            if array is None or _surely_fits(array, kind):
                continue
            refusal = functools.partial(self._refusal, kind=kind, path=name)
            if refusal(array):
                row = first_row(array, refusal)
                raise UsageError(f"{refusal(array.slice(row, 1))} in row {row}")

    def _asks(self, kind: OdpsType) -> bool:
        if not kind.fields:
            return kind.code in self._codes
        return any(each.code in self._codes for each in kind.walk())

    def _refusal(self, array: pa.Array, kind: OdpsType, path: str) -> str:
        """Why a value is none of the type; empty if each is one."""
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        array = distinct_values(array)
        if array.null_count == len(array):
            return ""
        if not kind.fields:
            if array.type.id not in _TEXT_IDS:
                array = convert(array, pa.large_string(), path)
            return (
                _document(array, path) if kind.code is TypeCode.JSON else _text(array, kind, path)
            )
        if kind.code is TypeCode.VECTOR and (why := _vector(array, kind, path)):
            return why
        for part, child, name in _parts(array, kind):
            if self._asks(child) and (why := self._refusal(part, child, f"{path}.{name}")):
                return why
        return ""


def _has_json(data_type: pa.DataType) -> bool:
    if is_flat(data_type):
        return False
    if isinstance(data_type, pa.BaseExtensionType):
        return data_type.extension_name == "arrow.json" or _has_json(data_type.storage_type)
    return any(_has_json(data_type.field(i).type) for i in range(data_type.num_fields))


def _surely_fits(array: pa.Array, kind: OdpsType) -> bool:
    """Whether all texts together have no more bytes than one may have characters, as in small batches.

    To ask how long their buffer is takes a hundredth of looking at the texts.
    """
    if kind.length is None or array.type.id not in _TEXT_IDS:
        return False
    data = array.buffers()[-1]
    return data is None or bool(data.size <= kind.length)


def _parts(array: pa.Array, kind: OdpsType) -> Iterator[tuple[pa.Array, OdpsType, str]]:
    """What stands below, with its type and name; of structs the fields that the data has."""
    if kind.code is TypeCode.STRUCT:
        visible = array.filter(array.is_valid()) if array.null_count else array
        numbers = {visible.type.field(i).name.casefold(): i for i in range(visible.type.num_fields)}
        for child in kind.fields:
            number = numbers.get(child.name.casefold())
            if number is not None:
                yield visible.field(number), child.type, child.name
    elif kind.code is TypeCode.MAP:
        entries = map_entries(array).flatten()
        for i, name in enumerate(("key", "value")):
            yield entries.field(i), kind.fields[i].type, name
    else:
        yield array.flatten(), kind.fields[0].type, "element"


def _vector(array: pa.Array, kind: OdpsType, path: str) -> str:
    lengths = pc.min_max(pc.list_value_length(array)).as_py()
    for length in lengths.values():
        if length != kind.length:
            return f"column {path!r} takes lists of {kind.length} elements, and the data has one of {length}"
    return ""


def _document(array: pa.Array, path: str) -> str:
    why = json_refusal(array.drop_null() if array.null_count else array)
    return (
        f"column {path!r} takes JSON, and the data has a text that is none ({why})" if why else ""
    )


def _text(array: pa.Array, kind: OdpsType, path: str) -> str:
    limit = kind.length or 0
    if (pc.max(pc.binary_length(array)).as_py() or 0) <= limit:
        return ""  # a character has one byte or more
    if kind.code is TypeCode.CHAR:
        array = pc.utf8_rtrim(array, " ")
    longest = pc.max(pc.utf8_length(array)).as_py() or 0
    if longest <= limit:
        return ""
    return f"column {path!r} takes texts of up to {limit} characters, and the data has one of {longest}"
