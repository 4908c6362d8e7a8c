"""What a Parquet file takes is told from its pages, whatever its footer says."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fletching.errors import FletchingError, InvalidArgumentError, LimitExceededError
from fletching.protocol.types import parquet_pages
from fletching.protocol.types.parquet_pages import BATCH_ROWS, ParquetNeed, _Compact, parquet_need

MIB = 1 << 20


def written(table: pa.Table, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    file.seek(0)
    return file


def need(file: io.BytesIO, limit: int = 64 * MIB) -> ParquetNeed:
    return parquet_need(file, pq.ParquetFile(file).metadata, limit)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "zstd", "snappy"])
def test_pages_are_added_up_as_the_footer_has_them(version: str, compression: str) -> None:
    """Of an honest writer, the pages with their headers are what the footer says of the columns."""
    table = pa.table({"a": range(40_000), "b": np.arange(40_000) / 3})
    file = written(
        table,
        data_page_version=version,
        compression=compression,
        data_page_size=10_000,
        use_dictionary=False,
        write_batch_size=500,
    )
    result = need(file)
    assert result.batch_rows == BATCH_ROWS
    assert result.dictionaries == []
    rows_need = BATCH_ROWS * (2 * 8 + 2 * 8)
    # Beside the rows, a page of each column is open.
    assert rows_need + 2 * 8_000 <= result.decoded_bytes <= rows_need + 2 * 20_000


def test_values_of_a_dictionary_are_read_as_a_dictionary() -> None:
    text = "x" * (4 * MIB)
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000), pa.array([text]))
    nested = pa.ListArray.from_arrays(pa.array([0, 0, *[50_000] * 49_999], pa.int32()), column)
    file = written(pa.table({"s": column, "l": nested, "n": range(50_000)}), compression="zstd")
    assert len(file.getvalue()) < 500_000
    result = need(file)
    assert result.dictionaries == ["l.list.element", "s"]
    assert result.decoded_bytes < 64 * MIB
    file.seek(0)
    opened = pq.ParquetFile(file, read_dictionary=result.dictionaries)
    before = pa.total_allocated_bytes()
    for batch in opened.iter_batches(result.batch_rows):
        assert pa.total_allocated_bytes() - before < 64 * MIB
        assert pa.types.is_dictionary(batch.schema.field("s").type)


def test_texts_take_their_own_length_at_most_all_of_their_column() -> None:
    text = pa.table({"s": ["x" * 10_000] * 500})
    result = need(written(text, use_dictionary=False, data_page_size=100_000, write_batch_size=10))
    # All of the column's bytes, and a page of them that is open.
    assert 5_000_000 <= result.decoded_bytes <= 7_000_000


@pytest.mark.parametrize(
    ("table", "options"),
    [
        # One page that decodes to all of its column.
        (
            pa.table({"a": pa.array(["x" * 8_000] * 10_000)}),
            {"data_page_size": 1 << 30, "write_batch_size": 1 << 30},
        ),
        # Nulls in one row, which cost nothing in the file.
        (
            pa.table(
                {
                    "a": pa.ListArray.from_arrays(
                        pa.array([0, 5_000_000], pa.int32()), pa.nulls(5_000_000, pa.int64())
                    )
                }
            ),
            {},
        ),
    ],
    ids=["page", "list"],
)
def test_what_does_not_fit_is_refused_before_it_is_decoded(
    table: pa.Table, options: dict[str, Any]
) -> None:
    file = written(table, compression="zstd", use_dictionary=False, **options)
    assert len(file.getvalue()) < 100_000
    before = pa.total_allocated_bytes()
    with pytest.raises(LimitExceededError, match="row group 0"):
        need(file)
    assert pa.total_allocated_bytes() - before < MIB


def test_fewer_rows_at_a_time_of_many_columns_or_shared_beginnings() -> None:
    wide = need(written(pa.table({f"c{n}": pa.nulls(10, pa.int64()) for n in range(500)})))
    assert 1 <= wide.batch_rows < BATCH_ROWS
    assert wide.decoded_bytes <= 64 * MIB
    texts = pa.table({"s": ["x" * 10_000 + str(n) for n in range(2_000)]})
    encoding = {"use_dictionary": False, "column_encoding": {"s": "DELTA_BYTE_ARRAY"}}
    shared = need(written(texts, **encoding))
    assert shared.batch_rows < 10_000
    assert shared.decoded_bytes <= 64 * MIB


def test_every_cut_and_many_changes_of_a_page_header_are_told_or_harmless() -> None:
    file = written(pa.table({"a": [1, None, 3], "s": ["x", "y", None]}), compression="none")
    metadata, data = pq.ParquetFile(file).metadata, file.getvalue()
    end = metadata.row_group(0).column(1).data_page_offset + 40
    for position in range(4, end):
        with pytest.raises(FletchingError):
            parquet_need(io.BytesIO(data[:4]), metadata, MIB)
        for value in (0, 0x7F, 0x80, 0xFF):
            changed = bytearray(data)
            changed[position] = value
            try:
                parquet_need(io.BytesIO(bytes(changed)), metadata, 64 * MIB)
            except (InvalidArgumentError, LimitExceededError):
                continue


def test_a_header_that_never_ends_is_refused() -> None:
    file = written(pa.table({"a": [1]}), compression="none")
    metadata = pq.ParquetFile(file).metadata
    start = metadata.row_group(0).column(0).dictionary_page_offset
    for filler in (
        b"\x15\x80" * 3000,
        b"\x1c" * 100,
        b"\x18\xff\xff\xff\xff\x07",
        b"\x19\xf5\xff\x7f",
        b"\x19" * 50_000,  # lists in lists, deeper than any stack
    ):
        data = file.getvalue()[:start] + filler
        with pytest.raises(InvalidArgumentError, match="no page header"):
            parquet_need(io.BytesIO(data), metadata, MIB)


def test_lists_in_a_header_are_passed_over() -> None:
    # Field 1 is a list of two numbers, field 2 is 3.
    assert _Compact(bytes([0x19, 0x25, 2, 4, 0x15, 6, 0])).struct() == ({1: None, 2: 3}, 7)


@pytest.mark.parametrize("short", ["total_compressed_size", "num_values"])
def test_a_chunk_ends_where_its_bytes_or_its_values_do(short: str) -> None:
    table = pa.table({"a": range(40_000)})
    options = {"compression": "none", "use_dictionary": False, "write_batch_size": 500}
    file = written(table, data_page_size=10_000, **options)
    column = pq.ParquetFile(file).metadata.row_group(0).column(0)
    answered = {
        name: getattr(column, name)
        for name in (
            *("data_page_offset", "dictionary_page_offset"),
            *("total_compressed_size", "num_values"),
        )
    }
    most = parquet_pages.MAX_PAGES
    assert parquet_pages._chunk(file, SimpleNamespace(**answered), most)[1] > 20
    answered[short] = 1
    assert parquet_pages._chunk(file, SimpleNamespace(**answered), most)[1] == 1
