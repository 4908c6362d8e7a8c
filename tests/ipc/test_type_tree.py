"""Trees of Arrow types: changed below, the same above."""

from __future__ import annotations

import pyarrow as pa
import pytest

from fletching.errors import UsageError
from fletching.ipc.type_tree import any_below, check_writable, with_children
from fletching.protocol.types.blob_type import blob

NESTED = [
    pa.struct([pa.field("a", pa.int8(), nullable=False), ("b", pa.string())]),
    pa.list_(pa.field("element", pa.int8(), nullable=False)),
    pa.large_list(pa.int8()),
    pa.list_view(pa.int8()),
    pa.large_list_view(pa.int8()),
    pa.list_(pa.int8(), 3),
    pa.map_(pa.string(), pa.int8(), keys_sorted=True),
    pa.dense_union([pa.field("x", pa.int8()), pa.field("y", pa.string())], [5, 9]),
    pa.sparse_union([pa.field("x", pa.int8())]),
    pa.run_end_encoded(pa.int16(), pa.int8()),
]


@pytest.mark.parametrize("data_type", NESTED, ids=str)
def test_a_type_over_the_same_children_is_the_same(data_type: pa.DataType) -> None:
    assert with_children(data_type, lambda child: child) == data_type


def wider(data_type: pa.DataType) -> pa.DataType:
    if data_type == pa.int8():
        return pa.int32()
    return with_children(data_type, wider)


@pytest.mark.parametrize("data_type", NESTED, ids=str)
def test_children_change_and_nothing_else(data_type: pa.DataType) -> None:
    changed = with_children(data_type, wider)
    assert str(changed) == str(data_type).replace("int8", "int32")
    assert not any_below(changed, lambda kind: kind == pa.int8())


def test_a_type_without_children_is_itself() -> None:
    assert with_children(pa.int8(), lambda _: pa.int64()) == pa.int8()


def test_storage_and_dictionary_values_are_looked_into() -> None:
    deep = pa.list_(pa.struct([("d", pa.dictionary(pa.int8(), pa.large_string()))]))
    assert any_below(deep, pa.types.is_large_string)
    assert any_below(pa.list_(blob()), lambda kind: kind == blob().storage_type)
    assert not any_below(deep, pa.types.is_boolean)


def test_dictionaries_of_dictionaries_have_no_place_in_the_format() -> None:
    inner = pa.dictionary(pa.int8(), pa.string())
    check_writable(pa.schema([("a", pa.list_(inner))]))
    for values in (inner, blob()):
        with pytest.raises(UsageError, match="column 'a' cannot be written"):
            check_writable(pa.schema([("a", pa.list_(pa.dictionary(pa.int8(), values)))]))
