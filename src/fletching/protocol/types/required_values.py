"""Nulls where a schema allows none, at every depth; values that a declared type lacks are looked for with them.

Arrow's format carries nullability in the schema alone: nothing stops a writer from sending nulls in
a column, struct field, list element or map value that is declared without. (Keys of maps are never
null: reading such a message fails.) A null inside a null, as a field of a null struct, is none:
nobody can see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa

from fletching.errors import UsageError
from fletching.ipc.type_tree import is_flat
from fletching.protocol.types.conversion import map_entries
from fletching.protocol.types.declared_rules import DeclaredRules
from fletching.protocol.types.row_selection import distinct_values

__all__ = ["RequiredValues"]

_types = pa.types


class RequiredValues:
    """The fields of a schema that must have values, looked up once."""

    def __init__(self, fields: Iterable[pa.Field], *, documents: bool = True) -> None:
        """Takes the columns as the table declares them; for ``documents`` see `DeclaredRules`."""
        columns = list(fields)
        self._wanted = [
            (number, field) for number, field in enumerate(columns) if not _all_optional(field)
        ]
        self._rules = DeclaredRules(columns, documents=documents)

    def check(self, column: Callable[[int], pa.Array | None]) -> None:
        """Checks a batch; of most tables no column has to be looked into.

        Struct fields of the data are matched by name, so that columns can be checked as they came.

        Args:
            column: the array of the schema's column of a number, or None if the data lacks it.

        Raises:
            UsageError: a null where there may be none, or a value that its type lacks; names the place.
        """
        for number, field in self._wanted:
            array = column(number)
            if array is not None:
                _check(array, field, field.name)
        self._rules.check(column)


def _all_optional(field: pa.Field) -> bool:
    return bool(field.nullable) and _children_optional(field.type)


def _children_optional(data_type: pa.DataType) -> bool:
    if is_flat(data_type):
        return True
    if isinstance(data_type, pa.BaseExtensionType):
        return _children_optional(data_type.storage_type)
    if _types.is_dictionary(data_type) or _types.is_run_end_encoded(data_type):
        return _children_optional(data_type.value_type)
    if _types.is_map(data_type):
        return _all_optional(data_type.item_field)
    return all(_all_optional(data_type.field(i)) for i in range(data_type.num_fields))


def _check(array: pa.Array, field: pa.Field, path: str) -> None:
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    data_type = field.type
    while isinstance(data_type, pa.BaseExtensionType):
        data_type = data_type.storage_type
    array = distinct_values(array)
    if _types.is_dictionary(data_type) or _types.is_run_end_encoded(data_type):
        data_type = data_type.value_type
    if not field.nullable and array.null_count:
        raise UsageError(f"column {path!r} has null in the data and may not")
    if _children_optional(data_type) or array.null_count == len(array):
        return
    if _types.is_struct(data_type):
        visible = array.filter(array.is_valid()) if array.null_count else array
        numbers = {visible.type.field(i).name.casefold(): i for i in range(visible.type.num_fields)}
        for i in range(data_type.num_fields):
            child = data_type.field(i)
            number = numbers.get(child.name.casefold())
            if number is not None and not _all_optional(child):
                _check(visible.field(number), child, f"{path}.{child.name}")
    elif _types.is_map(data_type):
        items = map_entries(array).flatten().field(1)
        _check(items, data_type.item_field, f"{path}.value")
    else:
        _check(array.flatten(), data_type.value_field, f"{path}.element")
