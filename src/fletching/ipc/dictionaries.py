"""Dictionaries: reading dictionary batches and putting their values under the columns that use them.

pyarrow reads record batches one message at a time, but has no way to be given the dictionaries of a
stream. So a batch is read with each dictionary type replaced by its index type, which has the same
buffers, and dictionary arrays are put together from the indices and the values: by reference, no
value is copied.
"""

from __future__ import annotations

import pyarrow as pa

from fletching.errors import InvalidDataError
from fletching.ipc.schema_header import FieldHeader
from fletching.ipc.type_tree import any_below, with_children

__all__ = ["DictionaryField", "attach", "dictionary_fields", "storage_type"]


def has_dictionary(data_type: pa.DataType) -> bool:
    """Whether the type, or one below it, is a dictionary."""
    return any_below(data_type, pa.types.is_dictionary)


def storage_type(data_type: pa.DataType) -> pa.DataType:
    """The type with the same nodes and buffers in which dictionaries are their indices.

    Extension types on the way to a dictionary give way to their storage.
    """
    if not has_dictionary(data_type):
        return data_type
    if isinstance(data_type, pa.BaseExtensionType):
        return storage_type(data_type.storage_type)
    if pa.types.is_dictionary(data_type):
        return data_type.index_type
    return with_children(data_type, storage_type)


class DictionaryField:
    """One dictionary-encoded field: its id, its value type, and the ids inside that value type."""

    __slots__ = ("children", "id", "value_type")

    def __init__(
        self, id_: int, value_type: pa.DataType, children: tuple[FieldHeader, ...]
    ) -> None:
        self.id = id_
        self.value_type = value_type
        self.children = children


def dictionary_fields(data_type: pa.DataType, header: FieldHeader) -> list[DictionaryField]:
    """The dictionary-encoded fields at or below a column, those inside value types included.

    Raises:
        InvalidDataError: the type and the header are not of the same schema.
    """
    if isinstance(data_type, pa.BaseExtensionType):
        return dictionary_fields(data_type.storage_type, header)
    found: list[DictionaryField] = []
    if pa.types.is_dictionary(data_type):
        if header.dictionary_id is None:
            raise InvalidDataError(f"field {header.name!r} has no dictionary id", layer="schema")
        value_type = data_type.value_type
        found.append(DictionaryField(header.dictionary_id, value_type, header.children))
        data_type = value_type
        if isinstance(data_type, pa.BaseExtensionType):
            data_type = data_type.storage_type
    if len(header.children) < data_type.num_fields:
        raise InvalidDataError(f"field {header.name!r} lacks children", layer="schema")
    for index in range(data_type.num_fields):
        found += dictionary_fields(data_type.field(index).type, header.children[index])
    return found


def attach(
    array: pa.Array,
    data_type: pa.DataType,
    header_id: int | None,
    children: tuple[FieldHeader, ...],
    dictionaries: dict[int, pa.Array],
) -> pa.Array:
    """Puts dictionaries under an array of `storage_type`, which must have been validated.

    Args:
        array: the array as read, dictionaries being indices.
        data_type: the type wanted.
        header_id: the field's dictionary id, for a dictionary type.
        children: the headers of its child fields.
        dictionaries: values by id.

    Raises:
        InvalidDataError: a dictionary is missing, or an index lies outside it.
    """
    if not has_dictionary(data_type):
        return array
    types = pa.types
    if isinstance(data_type, pa.BaseExtensionType):
        storage = attach(array, data_type.storage_type, header_id, children, dictionaries)
        return pa.ExtensionArray.from_storage(data_type, storage)
    if types.is_dictionary(data_type):
        return _dictionary_array(array, data_type, header_id, dictionaries)
    if types.is_run_end_encoded(data_type):
        values = attach(
            array.values,
            data_type.value_type,
            children[1].dictionary_id,
            children[1].children,
            dictionaries,
        )
        # The array was read from a message, so it starts at its own row 0.
        return pa.RunEndEncodedArray.from_buffers(
            data_type, len(array), [None], 0, 0, [array.run_ends, values]
        )
    parts = [
        attach(
            child, data_type.field(index).type, header.dictionary_id, header.children, dictionaries
        )
        for index, (child, header) in enumerate(zip(_children(array), children, strict=False))
    ]
    own = array.buffers()[: _own_buffers(data_type)]
    return pa.Array.from_buffers(
        data_type, len(array), own, array.null_count if own[0] is not None else 0, 0, parts
    )


def _own_buffers(data_type: pa.DataType) -> int:
    return int(data_type.num_buffers)


def _children(array: pa.Array) -> list[pa.Array]:
    data_type = array.type
    types = pa.types
    if types.is_struct(data_type) or types.is_union(data_type):
        return [array.field(index) for index in range(data_type.num_fields)]
    if types.is_map(data_type):
        keys, items = array.keys, array.items
        entries = data_type.field(0).type
        return [
            pa.Array.from_buffers(entries, len(keys), [None], 0, 0, [keys, items]),
        ]
    return [array.values]


def _dictionary_array(
    indices: pa.Array,
    data_type: pa.DataType,
    id_: int | None,
    dictionaries: dict[int, pa.Array],
) -> pa.Array:
    if id_ is None:
        raise InvalidDataError("a dictionary field has no id", layer="schema")
    values = dictionaries.get(id_)
    if values is None:
        if indices.null_count != len(indices):
            raise InvalidDataError(
                f"a record batch came before dictionary {id_}", layer="dictionary", expected=id_
            )
        values = pa.array([], data_type.value_type)
    try:
        return pa.DictionaryArray.from_arrays(indices, values, ordered=data_type.ordered, safe=True)
    except (pa.ArrowException, ValueError, TypeError, IndexError) as error:
        raise InvalidDataError(
            f"an index lies outside dictionary {id_}: {error}", layer="dictionary"
        ) from None
