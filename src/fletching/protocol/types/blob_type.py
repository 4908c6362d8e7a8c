"""The Arrow extension type of BLOB columns: ``fletching.blob``, stored as ``binary``.

A value is a blob reference, not the blob: the UTF-8 bytes of the reference text when
read, that or the decoded token when written. The type is registered with pyarrow when this module
is imported, so schemas read from streams and files carry it.
"""

from __future__ import annotations

import contextlib
from typing import Self

import pyarrow as pa

from fletching.ipc.type_tree import is_flat

__all__ = [
    "BLOB_EXTENSION_NAME",
    "BlobType",
    "blob",
    "contains_blob",
    "is_blob",
    "storage_type",
]

BLOB_EXTENSION_NAME = "fletching.blob"


class BlobType(pa.ExtensionType):  # type: ignore[misc]  # pyarrow ships no types
    """The type of a column of blob references; has no parameters, so all its instances are equal."""

    def __init__(self) -> None:
        """Fixes storage (``binary``) and name."""
        super().__init__(pa.binary(), BLOB_EXTENSION_NAME)

    def __arrow_ext_serialize__(self) -> bytes:
        """Nothing: the name says it all."""
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> Self:
        """Rebuilds the type from a schema; parameters of a later release are ignored.

        Raises:
            pyarrow.ArrowInvalid: the storage is not ``binary``.
        """
        del serialized
        if storage_type != pa.binary():
            raise pa.ArrowInvalid(f"{BLOB_EXTENSION_NAME} is stored as binary, not {storage_type}")
        return cls()

    def __hash__(self) -> int:
        """One for all, so that schemas and tables of types can have it; pyarrow gives none."""
        return hash(BLOB_EXTENSION_NAME)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles by class: there are no parameters."""
        return BlobType, ()


def blob() -> BlobType:
    """The Arrow type for BLOB columns, for use in ``pyarrow.schema``."""
    return BlobType()


def is_blob(data_type: pa.DataType) -> bool:
    """Whether an Arrow type is a BLOB itself (not: contains one)."""
    return (
        isinstance(data_type, pa.BaseExtensionType)
        and data_type.extension_name == BLOB_EXTENSION_NAME
    )


def contains_blob(data_type: pa.DataType) -> bool:
    """Whether an Arrow type is a BLOB or has one anywhere inside (list, map, struct)."""
    if is_flat(data_type):
        return False
    if is_blob(data_type):
        return True
    if isinstance(data_type, pa.BaseExtensionType):
        return contains_blob(data_type.storage_type)
    if pa.types.is_dictionary(data_type):
        return contains_blob(data_type.value_type)
    return any(contains_blob(data_type.field(i).type) for i in range(data_type.num_fields))


def storage_type(data_type: pa.DataType) -> pa.DataType:
    """The same type with ``binary`` in the place of every BLOB; ``array.cast`` to it copies nothing."""
    if not contains_blob(data_type):
        return data_type
    if isinstance(data_type, pa.BaseExtensionType):
        return storage_type(data_type.storage_type)
    if pa.types.is_struct(data_type):
        return pa.struct([field.with_type(storage_type(field.type)) for field in data_type])
    if pa.types.is_map(data_type):
        return pa.map_(
            data_type.key_field.with_type(storage_type(data_type.key_type)),
            data_type.item_field.with_type(storage_type(data_type.item_type)),
            keys_sorted=data_type.keys_sorted,
        )
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(kind(data_type) for kind in lists):
        raise pa.ArrowInvalid(f"BLOB values cannot stand inside {data_type}")
    value = data_type.value_field.with_type(storage_type(data_type.value_type))
    if pa.types.is_fixed_size_list(data_type):
        return pa.list_(value, data_type.list_size)
    if pa.types.is_large_list(data_type):
        return pa.large_list(value)
    return pa.list_(value)


# Registered in pyarrow's process-wide table; a second import under another name finds it there.
with contextlib.suppress(pa.ArrowKeyError):
    pa.register_extension_type(BlobType())
