"""Nulls where a schema allows none are found at every depth, and only those that can be seen."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.errors import UsageError
from fletching.ipc.constant_arrays import null_array
from fletching.protocol.types.required_values import RequiredValues

MUST = pa.field("m", pa.int64(), nullable=False)
S = pa.struct([MUST])
INNER = pa.array([{"m": 1}, {"m": None}, {"m": 2}], pa.struct([("m", pa.int64())]))
MASKED = pa.StructArray.from_arrays(
    [pa.array([1, None, 2])], names=["m"], mask=pa.array([False, True, False])
)
ITEM = pa.field("item", pa.int64(), nullable=False)

# the table's field, the data, and where a null stands that may not; None where none does
CASES: dict[str, tuple[Any, Any, str | None]] = {
    "column": (MUST, pa.array([1, None]), "'m'"),
    "optional column": (pa.field("c", pa.int64()), pa.array([1, None]), None),
    "dictionary value": (
        pa.field("c", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.DictionaryArray.from_arrays([0, 1], pa.array(["a", None])),
        "'c'",
    ),
    "unused dictionary value": (
        pa.field("c", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.DictionaryArray.from_arrays([0, 0], pa.array(["a", None])),
        None,
    ),
    "run": (
        pa.field("c", pa.run_end_encoded(pa.int32(), pa.string()), nullable=False),
        pa.RunEndEncodedArray.from_arrays([1, 3], pa.array(["a", None])),
        "'c'",
    ),
    "dictionary of lists of runs": (
        pa.field(
            "c",
            pa.dictionary(pa.int8(), pa.list_(pa.run_end_encoded(pa.int32(), pa.bool_()))),
            nullable=False,
        ),
        pa.DictionaryArray.from_arrays(
            pa.array([None], pa.int8()),
            null_array(pa.list_(pa.run_end_encoded(pa.int32(), pa.bool_())), 0),
        ),
        "'c'",
    ),
    "null type": (MUST, pa.nulls(2), "'m'"),
    "struct field": (pa.field("s", S), INNER, "'s.m'"),
    "struct field of another case": (
        pa.field("s", pa.struct([MUST.with_name("M")])),
        INNER,
        "'s.M'",
    ),
    "below a null struct": (pa.field("s", S), MASKED, None),
    "list element": (pa.field("l", pa.list_(ITEM)), pa.array([[1], [None]]), "'l.element'"),
    "outside every list": (
        pa.field("l", pa.list_(ITEM)),
        pa.ListArray.from_arrays([1, 2], pa.array([None, 1, None], pa.int64())),
        None,
    ),
    "below a null list": (
        pa.field("l", pa.list_(ITEM)),
        pa.ListArray.from_arrays(
            [0, 1, 2], pa.array([1, None], pa.int64()), mask=pa.array([False, True])
        ),
        None,
    ),
    "view": (
        pa.field("l", pa.list_view(ITEM)),
        pa.array([[1], [None]], pa.list_view(pa.int64())),
        "'l.element'",
    ),
    "fixed list": (
        pa.field("l", pa.list_(ITEM, 1)),
        pa.array([[1], None, [2]], pa.list_(pa.int64(), 1)),
        None,
    ),
    "fixed list with null": (
        pa.field("l", pa.list_(ITEM, 1)),
        pa.array([[1], [None]], pa.list_(pa.int64(), 1)),
        "'l.element'",
    ),
    "map value": (
        pa.field("m", pa.map_(pa.string(), pa.field("value", pa.int64(), nullable=False))),
        pa.array([[("a", 1)], [("b", None)]], pa.map_(pa.string(), pa.int64())),
        "'m.value'",
    ),
    "deep": (
        pa.field("l", pa.list_(pa.struct([("s", S)]))),
        pa.ListArray.from_arrays([0, 3], pa.StructArray.from_arrays([INNER], ["s"])),
        "'l.element.s.m'",
    ),
    "deep, below a null": (
        pa.field("l", pa.list_(pa.struct([("s", S)]))),
        pa.ListArray.from_arrays([0, 3], pa.StructArray.from_arrays([MASKED], ["s"])),
        None,
    ),
    "in an encoded struct": (
        pa.field("s", pa.run_end_encoded(pa.int32(), S)),
        pa.RunEndEncodedArray.from_arrays([1, 2, 3], INNER),
        "'s.m'",
    ),
    "extension": (
        pa.field("t", pa.fixed_shape_tensor(pa.int8(), [1]), nullable=False),
        pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.int8(), [1]), pa.array([[1], None], pa.list_(pa.int8(), 1))
        ),
        "'t'",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_nulls_that_may_not_be(name: str) -> None:
    field, array, position = CASES[name]
    required = RequiredValues([pa.field("other", pa.int8()), field])
    columns = [pa.array([], pa.int8()), array]
    for start in range(len(array)):
        required.check([columns[0], array[start:start]].__getitem__)
    if position is None:
        required.check(columns.__getitem__)
        return
    with pytest.raises(UsageError, match=f"column {position} has null"):
        required.check(columns.__getitem__)


def test_columns_that_are_not_there_are_not_looked_at() -> None:
    RequiredValues([MUST]).check(lambda _: None)
    RequiredValues([pa.field("a", S)]).check(lambda _: None)
    # nothing to look into: the columns are not even asked for
    RequiredValues([pa.field("a", pa.list_(pa.int8()))]).check([].__getitem__)
