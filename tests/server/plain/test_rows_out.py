"""Rows written in a format, piece by piece, in memory that does not depend on what they stand for."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fletching.errors import InvalidArgumentError
from fletching.protocol.types.row_formats import FileFormat
from fletching.server.plain.rows_out import CONVERTED_ROWS, WrittenRows

TEXT = "x" * (1 << 20)


def groups(batches: list[pa.RecordBatch], chosen: FileFormat) -> Iterator[bytes]:
    source = WrittenRows(batches[0].schema, iter(batches), chosen, group_bytes=4 << 20)
    while not source.ended:
        yield b"".join(map(bytes, source.next_chunk()))


@pytest.mark.parametrize("chosen", [FileFormat.CSV, FileFormat.JSONL])
def test_a_text_that_rows_share_is_written_for_each_and_not_for_all_at_once(
    chosen: FileFormat,
) -> None:
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int8()), pa.array([TEXT]))
    runs = pa.record_batch({"s": shared, "n": range(100)})
    before, rows, most = pa.total_allocated_bytes(), b"", 0
    for group in groups([runs], chosen):
        most = max(most, len(group))
        assert pa.total_allocated_bytes() - before < 64 << 20
        rows += group
    assert most < 64 << 20
    assert rows.count(TEXT.encode()) == 100


def test_every_row_of_every_batch_is_written_once_in_its_order() -> None:
    sizes = [0, 1, CONVERTED_ROWS, CONVERTED_ROWS + 1, 0, 3]
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    batches = [
        pa.record_batch({"n": pa.array(range(start, start + size), pa.int64())})
        for start, size in zip(starts, sizes, strict=True)
    ]
    wanted = list(range(sum(sizes)))
    text = b"".join(groups(batches, FileFormat.JSONL))
    assert [json.loads(line)["n"] for line in text.splitlines()] == wanted
    text = b"".join(groups(batches, FileFormat.CSV))
    assert [int(row[0]) for row in list(csv.reader(io.StringIO(text.decode())))[1:]] == wanted
    stream = pa.ipc.open_stream(b"".join(groups(batches, FileFormat.STREAM))).read_all()
    assert stream["n"].to_pylist() == wanted
    # Its footer says where everything stands.
    file = pq.read_table(io.BytesIO(b"".join(groups(batches, FileFormat.PARQUET))))
    assert file["n"].to_pylist() == wanted


def test_closing_closes_what_the_batches_have_open() -> None:
    closed = []

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield pa.record_batch({"n": [1]})
        finally:
            closed.append(True)

    source = WrittenRows(pa.schema([("n", pa.int64())]), batches(), FileFormat.CSV, group_bytes=10)
    source.next_chunk()
    source.close()
    assert closed == [True]


def test_what_a_format_cannot_hold_is_said() -> None:
    schema = pa.schema([("m", pa.list_(pa.int64()))])
    batch = pa.record_batch([pa.array([[1]], pa.list_(pa.int64()))], schema=schema)
    with pytest.raises(InvalidArgumentError, match="csv"):
        list(groups([batch], FileFormat.CSV))
