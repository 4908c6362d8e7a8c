"""Rows that are written anew, of columns of any type: the same values, and no byte of any other row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fletching.engine.upkeep.segment_copy import purged_rows
from fletching.ipc.encoding import BatchEncoder

MARK = "ZQXJ-a deleted value"
COUNT = 24
TEXT = pa.string()
WORDS = pa.dictionary(pa.int16(), TEXT, ordered=True)


def texts(at: int) -> list[str]:
    return [MARK if number == at else f"value number {number}" for number in range(COUNT)]


def flat(kind: pa.DataType) -> Any:
    return lambda at: pa.array(texts(at)).cast(kind)


def words(at: int) -> pa.Array:
    return pa.array(texts(at)).dictionary_encode().cast(WORDS)


def lists(kind: Any, value: Any) -> Any:
    def made(at: int) -> pa.Array:
        return kind.from_arrays(range(COUNT + 1), value(at))

    return made


def views(kind: Any, value: Any, offset: Any) -> Any:
    def made(at: int) -> pa.Array:
        values = value(at)
        starts = pa.array(range(len(values)), offset)
        return kind.from_arrays(starts, pa.array([1] * len(values), offset), values)

    return made


def struct(value: Any) -> Any:
    return lambda at: pa.StructArray.from_arrays([value(at), pa.array(range(COUNT))], ["a", "b"])


def runs(at: int) -> pa.Array:
    ends = pa.array(range(1, COUNT + 1), pa.int32())
    return pa.RunEndEncodedArray.from_arrays(ends, pa.array(texts(at)))


CASES = {
    "text": flat(TEXT),
    "large": flat(pa.large_binary()),
    "view": flat(pa.string_view()),
    "words": words,
    "fixed": lambda at: pa.array([each.ljust(30).encode() for each in texts(at)], pa.binary(30)),
    "list": lists(pa.ListArray, flat(TEXT)),
    "list of views": lists(pa.LargeListArray, flat(pa.string_view())),
    "list of words": lists(pa.ListArray, words),
    "fixed list": lambda at: pa.FixedSizeListArray.from_arrays(words(at), 1),
    "list view": views(pa.ListViewArray, flat(TEXT), pa.int32()),
    "large list view": views(pa.LargeListViewArray, words, pa.int64()),
    "struct": struct(flat(TEXT)),
    "struct of words": struct(words),
    "struct of lists of views": struct(lists(pa.ListArray, flat(pa.string_view()))),
    "map": lambda at: pa.MapArray.from_arrays(range(COUNT + 1), words(at), flat(pa.string_view())(at)),
    "runs": runs,
}  # fmt: skip


def written(batch: pa.RecordBatch) -> bytes:
    encoder = BatchEncoder(batch.schema)
    return b"".join(bytes(piece) for frame in encoder.encode(batch) for piece in frame)


@pytest.mark.parametrize("at", [0, 11, COUNT - 1])
@pytest.mark.parametrize("case", CASES)
def test_no_byte_of_a_deleted_row_is_written(case: str, at: int) -> None:
    column = CASES[case](at)
    batch = pa.record_batch({"id": pa.array(range(COUNT)), "v": column})
    kept = np.array([number for number in range(COUNT) if number != at], dtype=np.int64)
    assert MARK.encode() in written(batch)
    made = purged_rows(batch, kept)
    made.validate(full=True)
    assert made.schema == batch.schema
    assert made.column(1).to_pylist() == [v for n, v in enumerate(column.to_pylist()) if n != at]
    data = written(made)
    assert MARK.encode() not in data
    # As a file of its own, it is read as it was.
    stream = encoded_stream(made, data)
    assert pa.ipc.open_stream(stream).read_all().to_pylist() == made.to_pylist()


def encoded_stream(batch: pa.RecordBatch, data: bytes) -> bytes:
    encoder = BatchEncoder(batch.schema)
    return encoder.schema_message + data + encoder.end_of_stream


@pytest.mark.parametrize("case", CASES)
def test_nulls_and_batches_of_no_rows(case: str) -> None:
    column = CASES[case](3)
    batch = pa.record_batch({"v": column})
    assert purged_rows(batch, np.array([], dtype=np.int64)).num_rows == 0
    if case == "runs":
        return
    null = pa.nulls(1, column.type)
    nulls = pa.record_batch(
        {
            "v": pa.concat_arrays(
                [column.slice(0, 1), null, column.slice(3, 1), null, column.slice(5, 1)]
            )
        }
    )
    made = purged_rows(nulls, np.array([1, 2, 4], dtype=np.int64))
    made.validate(full=True)
    assert made.column(0).to_pylist() == [None, *(column.to_pylist()[n] for n in (3, 5))]


def test_rows_without_columns_are_counted() -> None:
    batch = pa.record_batch([pa.array([1, 2, 3])], ["a"]).select([])
    assert purged_rows(batch, np.array([0, 2], dtype=np.int64)).num_rows == 2
