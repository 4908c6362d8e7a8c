from __future__ import annotations

import gc
import weakref
from collections.abc import Generator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fletching.client.reading import number_frame
from fletching.client.reading.number_frame import fill_frame, holds_numbers


def batches_of(*arrays: pa.Array) -> list[pa.RecordBatch]:
    return [
        pa.record_batch({"a": each, "b": pa.array(range(len(each)), pa.int64())}) for each in arrays
    ]


def given(batches: list[pa.RecordBatch]) -> Generator[pa.RecordBatch, None, None]:
    yield from batches


@pytest.mark.parametrize(
    "arrays",
    [
        [pa.array([1, 2], pa.int8()), pa.array([], pa.int8()), pa.array([3], pa.int8())],
        [pa.array([1, 2**63], pa.uint64())],
        [pa.array([1, 2]), pa.array([None, 4]), pa.array([5])],
        [pa.array([None, None], pa.int16()), pa.array([1], pa.int16())],
        [pa.array([2**53 + 1, 5]), pa.array([None], pa.int64())],
        [pa.array([1.5, None, float("nan")], pa.float32()), pa.array([2.5], pa.float32())],
        [pa.array([1.5], pa.float64()), pa.array([None], pa.float64())],
    ],
)
@pytest.mark.parametrize("reported", [1, 3, 5, 100])
def test_the_frame_is_what_pyarrow_makes(arrays: list[pa.Array], reported: int) -> None:
    batches = batches_of(*arrays)
    table = pa.Table.from_batches(batches)
    assert holds_numbers(table.schema)
    pd.testing.assert_frame_equal(
        fill_frame(table.schema, given(batches), reported), table.to_pandas()
    )


def test_more_rows_than_are_worth_asking_for_come_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(number_frame, "_MOST_AHEAD", 2)
    batches = batches_of(*(pa.array(np.arange(n)) for n in range(9)))
    table = pa.Table.from_batches(batches)
    frame = fill_frame(table.schema, given(batches), 10**15)
    pd.testing.assert_frame_equal(frame, table.to_pandas())


def test_columns_are_writable_and_of_their_own() -> None:
    batches = batches_of(pa.array([1, 2]), pa.array([3]))
    frame = fill_frame(batches[0].schema, given(batches), 3)
    frame.loc[0, "a"] = 7
    assert frame["a"].tolist() == [7, 2, 3]
    assert batches[0]["a"].to_pylist() == [1, 2]


def test_no_batch_is_kept() -> None:
    alive: list[Any] = []
    most = 0

    def made() -> Generator[pa.RecordBatch, None, None]:
        nonlocal most
        for number in range(20):
            values = np.arange(1000) + number
            alive.append(weakref.ref(values))
            yield pa.record_batch({"a": pa.array(values)})
            del values
            gc.collect()
            most = max(most, sum(each() is not None for each in alive))

    frame = fill_frame(pa.schema([("a", pa.int64())]), made(), 20_000)
    assert len(frame) == 20_000
    assert most <= 2


def test_a_read_that_fails_is_closed() -> None:
    ended: list[bool] = []

    def broken() -> Generator[pa.RecordBatch, None, None]:
        try:
            yield pa.record_batch({"a": pa.array([1])})
            raise OSError("gone")
        finally:
            ended.append(True)

    with pytest.raises(OSError, match="gone"):
        fill_frame(pa.schema([("a", pa.int64())]), broken(), 5)
    assert ended == [True]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (pa.schema([("a", pa.int64())]), True),
        (pa.schema([]), False),
        (pa.schema([("a", pa.int64()), ("a", pa.int64())]), False),
        (pa.schema([("a", pa.string())]), False),
        (pa.schema([("a", pa.bool_())]), False),
        (pa.schema([("a", pa.float16())]), False),
        (pa.schema([("a", pa.timestamp("us"))]), False),
        (pa.schema([("a", pa.int64())], metadata={b"pandas": b"{}"}), False),
    ],
)
def test_which_columns_are_numbers(schema: pa.Schema, expected: bool) -> None:
    assert holds_numbers(schema) is expected
