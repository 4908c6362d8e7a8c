"""Rows written in a format, piece by piece, in memory that does not depend on what they stand for."""

from __future__ import annotations

import contextlib
import csv
import http.client
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fletching
from fletching.errors import InvalidArgumentError
from fletching.protocol.types.row_formats import FileFormat
from fletching.server.plain import rows_out
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


@pytest.mark.parametrize("chosen", ["csv", "arrow"])
def test_the_rows_that_are_asked_for_are_made_in_a_quarter_of_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    """One group is sent while the next is made, and whoever makes it holds what it is made from."""
    made: list[int] = []
    for name in ("WrittenRows", "PlanSource"):
        kind = getattr(rows_out, name)

        def recorded(*arguments: Any, kind: Any = kind) -> Any:
            made.append(arguments[-1])
            return kind(*arguments)

        monkeypatch.setattr(rows_out, name, recorded)
    with fletching.serve(tmp_path / "data", port=0, read_memory_bytes=1 << 20) as server:
        access_id, secret = server.access_key
        with fletching.connect(server.url, access_id=access_id, access_key=secret) as client:
            client.create_table("t", "id BIGINT").append({"id": range(6)})
        token = server.service.engine.access_keys.tokens.sign(access_id, secret, time.time() + 3600)
        web = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=600)

        def ids(query: str) -> list[int]:
            path = f"/fletching/v1/tables/demo/default/t/rows?format={chosen}{query}"
            web.request("GET", path, headers={"authorization": f"Bearer {token}"})
            reply = web.getresponse()
            body = reply.read()
            assert reply.status == 200, body
            if chosen == "csv":
                return [int(line) for line in body.split()[1:]]
            return list(pa.ipc.open_stream(body).read_all()["id"].to_pylist())

        with contextlib.closing(web):
            assert ids("") == [0, 1, 2, 3, 4, 5]
            assert made == [1 << 18]
            # With a filter, rows are counted among those that it lets through.
            for query, result in (
                ("&offset=1&limit=2", [1, 2]),
                ("&filter=id%3E1", [2, 3, 4, 5]),
                ("&filter=id%3E1&offset=1", [3, 4, 5]),
                ("&filter=id%3E1&limit=3", [2, 3, 4]),
                ("&filter=id%3E1&offset=1&limit=2", [3, 4]),
            ):
                assert ids(query) == result, query
