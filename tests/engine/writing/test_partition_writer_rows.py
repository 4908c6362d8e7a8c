"""Dynamic partitions: every row goes to the partition that its values name, in its order."""

from __future__ import annotations

import collections

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.engine.tables.partitions import partition_fields
from fletching.engine.writing.partition_writer import group_rows, partition_rows
from fletching.errors import InvalidArgumentError

COLUMNS = [("day", "STRING"), ("hour", "INT")]
FIELDS = partition_fields(COLUMNS)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(-2, 2)), min_size=1))
def test_each_row_is_in_its_partition_once_and_in_order(rows: list[tuple[str, int]]) -> None:
    arrays = [pa.array([day for day, _ in rows]), pa.array([hour for _, hour in rows], pa.int32())]
    wanted = collections.defaultdict(list)
    for number, (day, hour) in enumerate(rows):
        wanted[(day, str(hour))].append(number)
    groups = group_rows(COLUMNS, FIELDS, arrays)
    expected = {
        values: list(range(len(rows))) if indices is None else indices.to_pylist()
        for values, indices in groups
    }
    assert expected == wanted
    assert all(indices is None for _, indices in groups) == (len(wanted) == 1)


def test_a_value_that_a_dictionary_has_twice_is_one_partition() -> None:
    twice = pa.DictionaryArray.from_arrays([0, 2, 1], pa.array(["a", "a", "b"]))
    groups = group_rows([("p", "STRING")], partition_fields([("p", "STRING")]), [twice])
    assert {values: indices.to_pylist() for values, indices in groups if indices} == {
        ("a",): [0, 2],
        ("b",): [1],
    }


def test_integers_are_spelt_by_their_digits() -> None:
    days = pa.array([20260101, -7, 20260101], pa.int64())
    groups = group_rows([("p", "STRING")], partition_fields([("p", "STRING")]), [days])
    assert {values: indices.to_pylist() for values, indices in groups if indices} == {
        ("20260101",): [0, 2],
        ("-7",): [1],
    }
    with pytest.raises(InvalidArgumentError, match="null"):
        group_rows([("p", "STRING")], partition_fields([("p", "STRING")]), [pa.array([1, None])])


NUMBERS = pa.array([1, 2], pa.int32())


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ([pa.array(["a", None]), NUMBERS], "day has null"),
        ([pa.array(["a", "b"]), pa.array([1, None], pa.int32())], "hour has null"),
        ([pa.array(["a", ""]), NUMBERS], "column day"),
        ([pa.array(["a", "b\n"]), NUMBERS], "column day"),
        (
            [pa.DictionaryArray.from_arrays([0, 1], pa.array(["a", None])), NUMBERS],
            "day has null",
        ),
        (
            [pa.DictionaryArray.from_arrays(pa.array([0, None]), pa.array(["a"])), NUMBERS],
            "day has null",
        ),
    ],
)
def test_null_and_what_is_no_value_are_refused(arrays: list[pa.Array], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        group_rows(COLUMNS, FIELDS, arrays)


def test_rows_are_taken_in_their_order() -> None:
    batch = pa.record_batch({"a": [1, 2, 3], "b": [["x"], None, []]})
    taken = partition_rows(batch, pa.array([2, 0]))
    assert taken.to_pylist() == [{"a": 3, "b": []}, {"a": 1, "b": ["x"]}]
