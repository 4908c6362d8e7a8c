"""The formats in both directions, without files: what is written is read, by us and by others."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fletching.errors import LimitExceededError, UsageError
from fletching.protocol.types.row_formats import (
    DELIMITERS,
    TEXT_BLOCK_BYTES,
    FileFormat,
    Opened,
    ReadOptions,
    check_names,
    open_csv,
    open_json_lines,
    open_parquet,
    open_stream,
    row_writer,
    text_need,
)

TABLE = pa.table(
    {
        "id": pa.array([1, None, 3], pa.int64()),
        "text": ["a", "", None],
        "data": pa.array([b"\x00", b"", None], pa.binary()),
        "day": pa.array([0, 1, None], pa.date32()),
    }
)


def written(table: pa.Table, chosen: FileFormat) -> bytes:
    sink = io.BytesIO()
    writer = row_writer(sink, table.schema, chosen)
    for batch in table.to_batches(max_chunksize=2):
        writer.write_batch(batch)
    writer.close()
    return sink.getvalue()


def opened(data: bytes, chosen: FileFormat, options: ReadOptions) -> Opened:
    if chosen is FileFormat.PARQUET:
        return open_parquet(io.BytesIO(data))
    if chosen is FileFormat.JSONL:
        return open_json_lines(io.BytesIO(data), options)
    if chosen in DELIMITERS:
        return open_csv("x", lambda: io.BytesIO(data), options, DELIMITERS[chosen], again=True)
    return open_stream(io.BytesIO(data))


@pytest.mark.parametrize("chosen", [each for each in FileFormat if each is not FileFormat.ARROW])
def test_what_is_written_is_read(chosen: FileFormat) -> None:
    source = opened(written(TABLE, chosen), chosen, ReadOptions(types=TABLE.schema))
    assert pa.Table.from_batches(source.batches, source.schema).to_pylist() == TABLE.to_pylist()


def test_others_read_it() -> None:
    assert pq.read_table(io.BytesIO(written(TABLE, FileFormat.PARQUET))) == TABLE
    assert pa.ipc.open_stream(written(TABLE, FileFormat.STREAM)).read_all() == TABLE
    assert pa.ipc.open_file(written(TABLE, FileFormat.ARROW)).read_all() == TABLE


def test_types_that_are_given_count() -> None:
    types = pa.schema([("zip", pa.string()), ("n", pa.int8())])
    csv = opened(b"zip,n\n007,1\n", FileFormat.CSV, ReadOptions(types=types))
    assert next(csv.batches).to_pylist() == [{"zip": "007", "n": 1}]
    lines = opened(b'{"n":1}\n', FileFormat.JSONL, ReadOptions(types=types))
    assert next(lines.batches).to_pylist() == [{"zip": None, "n": 1}]


@pytest.mark.parametrize(
    ("names", "answered"), [(["a", "A"], "several columns"), (["a", ""], "without a name")]
)
def test_names_that_no_table_can_have(names: list[str], answered: str) -> None:
    with pytest.raises(UsageError, match=answered):
        check_names("x", pa.schema([(name, pa.int8()) for name in names]))


@pytest.mark.parametrize(
    ("data", "options", "answered"),
    [
        (b"a;b\n1;2\n", {}, "--delimiter ';'"),
        (b"a\tb\n1\t2\n", {}, "--delimiter"),
        (b"a,b\n1,\xff\n", {}, "not UTF-8"),
    ],
)
def test_csv_of_another_kind_is_named(data: bytes, options: dict[str, Any], answered: str) -> None:
    with pytest.raises(UsageError, match=answered):
        opened(data, FileFormat.CSV, ReadOptions(**options))


def test_json_lines_are_utf8() -> None:
    with pytest.raises(UsageError, match="UTF-8"):
        opened(b"{}\n", FileFormat.JSONL, ReadOptions(encoding="latin-1"))
    with pytest.raises(pa.ArrowInvalid, match="base64"):
        list(
            opened(
                b'{"b":"???"}\n',
                FileFormat.JSONL,
                ReadOptions(types=pa.schema([("b", pa.binary())])),
            ).batches
        )


def test_the_need_of_text_is_told_from_its_lines() -> None:
    wide = pa.schema([(f"f{n}", pa.decimal256(60, 2)) for n in range(60)])
    short, long = b"{}\n" * 200_000, b'{"f0": "' + b"x" * 900_000 + b'"}\n'
    block, need = text_need(io.BytesIO(short), wide, 1 << 30)
    assert block == TEXT_BLOCK_BYTES
    assert need >= 200_000 * 60 * 32
    block, need = text_need(io.BytesIO(short), wide, 256 << 20)
    assert block < TEXT_BLOCK_BYTES
    assert need <= 256 << 20
    # A block holds the longest line: what then does not fit is refused.
    assert text_need(io.BytesIO(long), wide, 64 << 20)[0] > len(long)
    with pytest.raises(LimitExceededError, match="fewer lines"):
        text_need(io.BytesIO(long + short), wide, 64 << 20)
    assert text_need(io.BytesIO(b""), wide, 64 << 20)[0] == TEXT_BLOCK_BYTES
    assert text_need(io.BytesIO(b"x" * 100_000), wide, 64 << 20)[0] == TEXT_BLOCK_BYTES


def test_columns_that_no_table_has_are_not_made_of_every_key() -> None:
    lines = b"".join(b'{"k%d": 1}\n' % number for number in range(1000))
    options = ReadOptions(types=pa.schema([("a", pa.int64())]), only_types=True)
    with pytest.raises(pa.ArrowInvalid, match="unexpected field"):
        list(open_json_lines(io.BytesIO(lines), options).batches)


@pytest.mark.parametrize("groups", [1, 20])
def test_a_large_parquet_file_is_not_taken_into_memory(tmp_path: Path, groups: int) -> None:
    rng = np.random.default_rng(3)
    rows = 2_000_000
    table = pa.table({"a": rng.random(rows), "b": rng.random(rows)})
    path = tmp_path / "large.parquet"
    pq.write_table(
        table, path, row_group_size=rows // groups, compression="none", use_dictionary=False
    )
    assert path.stat().st_size > 30 << 20
    del table
    before = most = pa.total_allocated_bytes()
    opened = open_parquet(str(path))
    counted = 0
    for batch in opened.batches:
        counted += batch.num_rows
        most = max(most, pa.total_allocated_bytes())
    assert counted == opened.rows == rows
    assert most - before < 20 << 20
