"""Dictionaries: reading dictionary batches and putting their values under the columns that use them.

pyarrow reads record batches one message at a time, but has no way to be given the dictionaries of a
stream. So a batch is read with each dictionary type replaced by its index type, which has the same
buffers, and dictionary arrays are put together from the indices and the values: by reference, no
value is copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fletching.errors import InvalidDataError
from fletching.ipc.array_tree import with_changed_children
from fletching.ipc.constant_arrays import null_array
from fletching.ipc.message import as_view
from fletching.ipc.schema_header import FieldHeader
from fletching.ipc.type_tree import any_below, is_flat, with_children

__all__ = ["DictionaryField", "GrowingArray", "attach", "dictionary_fields", "storage_type"]

_MAX_I32: Final = (1 << 31) - 1


def has_dictionary(data_type: pa.DataType) -> bool:
    """Whether the type, or one below it, is a dictionary."""
    return not is_flat(data_type) and any_below(data_type, pa.types.is_dictionary)


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
    result: list[DictionaryField] = []
    if pa.types.is_dictionary(data_type):
        if header.dictionary_id is None:
            raise InvalidDataError(f"field {header.name!r} has no dictionary id", layer="schema")
        value_type = data_type.value_type
        result.append(DictionaryField(header.dictionary_id, value_type, header.children))
        data_type = value_type
        if isinstance(data_type, pa.BaseExtensionType):
            data_type = data_type.storage_type
    if len(header.children) < data_type.num_fields:
        raise InvalidDataError(f"field {header.name!r} lacks children", layer="schema")
    for index in range(data_type.num_fields):
        result += dictionary_fields(data_type.field(index).type, header.children[index])
    return result


class GrowingArray:
    """An array that is added to: values of a dictionary with deltas. Adding costs what is added.

    Parts are joined when the array is asked for. Memory for plain types grows by doubling, and
    arrays handed out before stay valid: what is added lies behind their end.
    """

    def __init__(self, array: pa.Array) -> None:
        self._joined = array
        self._parts: list[pa.Array] = []
        self._buffers: list[_GrowingBuffer] | None = None

    def append(self, array: pa.Array) -> None:
        """Adds values of the same type behind the others."""
        self._parts.append(array)

    @property
    def array(self) -> pa.Array:
        """All values as one array."""
        if self._parts:
            parts, self._parts = [self._joined, *self._parts], []
            self._joined = self._plain(parts) or pa.concat_arrays(parts)
        return self._joined

    def _plain(self, parts: list[pa.Array]) -> pa.Array | None:
        """The parts joined in growing memory; None for types and values that this cannot hold."""
        data_type = self._joined.type
        width = _fixed_width(data_type)
        is_text = pa.types.is_string(data_type) or pa.types.is_binary(data_type)
        if not (width or is_text) or any(part.null_count for part in parts):
            self._buffers = None
            return None
        new = parts[1:]
        if self._buffers is None:
            self._buffers = [_GrowingBuffer(), _GrowingBuffer()]
            new = parts
        values, offsets = self._buffers
        if not is_text:
            for part in new:
                start = part.offset * width
                values.append(as_view(part.buffers()[1])[start : start + len(part) * width])
            length = values.length // width
            return pa.Array.from_buffers(data_type, length, [None, values.buffer()])
        for part in new:
            bounds = _offsets(part)
            if not len(bounds):
                continue
            first, last = int(bounds[0]), int(bounds[-1])
            moved = bounds[1 if offsets.length else 0 :].astype(np.int64) + (values.length - first)
            if int(moved[-1]) > _MAX_I32:
                self._buffers = None
                return None
            offsets.append(memoryview(moved.astype(np.int32).tobytes()))
            if last > first:
                values.append(as_view(part.buffers()[2])[first:last])
        length = max(0, offsets.length // 4 - 1)
        buffers = [None, offsets.buffer(), values.buffer()]
        return pa.Array.from_buffers(data_type, length, buffers)


class _GrowingBuffer:
    """Bytes in memory that doubles when it is full. The copies are what makes values contiguous."""

    def __init__(self) -> None:
        self._store = pa.allocate_buffer(1024)
        self.length = 0

    def append(self, data: memoryview) -> None:
        end = self.length + len(data)
        if end > self._store.size:
            larger = pa.allocate_buffer(2 * end)
            memoryview(larger).cast("B")[: self.length] = memoryview(self._store).cast("B")[
                : self.length
            ]
            self._store = larger
        memoryview(self._store).cast("B")[self.length : end] = data
        self.length = end

    def buffer(self) -> pa.Buffer:
        return self._store.slice(0, self.length)


def _fixed_width(data_type: pa.DataType) -> int:
    """Bytes of a value of a flat type, 0 if it is not of whole bytes."""
    types = pa.types
    if isinstance(data_type, pa.BaseExtensionType) or data_type.num_fields:
        return 0
    if not (types.is_primitive(data_type) or types.is_fixed_size_binary(data_type)):
        return 0
    width: int = data_type.bit_width
    return width // 8 if width % 8 == 0 else 0


def _offsets(array: pa.Array) -> NDArray[np.int32]:
    """The offsets of an array of text; none if it has no values."""
    if not len(array):
        return np.empty(0, np.int32)
    return np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, 4 * array.offset)


def attach(
    array: pa.Array,
    data_type: pa.DataType,
    header_id: int | None,
    children: tuple[FieldHeader, ...],
    dictionaries: Mapping[int, GrowingArray],
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
    return with_changed_children(
        array,
        data_type,
        lambda child, index: attach(
            child,
            data_type.field(index).type,
            children[index].dictionary_id,
            children[index].children,
            dictionaries,
        ),
    )


def _dictionary_array(
    indices: pa.Array,
    data_type: pa.DataType,
    id_: int | None,
    dictionaries: Mapping[int, GrowingArray],
) -> pa.Array:
    if id_ is None:
        raise InvalidDataError("a dictionary field has no id", layer="schema")
    result = dictionaries.get(id_)
    values = None if result is None else result.array
    if values is None:
        if indices.null_count != len(indices):
            raise InvalidDataError(
                f"a record batch came before dictionary {id_}", layer="dictionary", expected=id_
            )
        values = null_array(data_type.value_type, 0)
    try:
        return pa.DictionaryArray.from_arrays(indices, values, ordered=data_type.ordered, safe=True)
    except (pa.ArrowException, ValueError, TypeError, IndexError) as error:
        raise InvalidDataError(
            f"an index lies outside dictionary {id_}: {error}", layer="dictionary"
        ) from None
