"""Which rows are handed out as files: the rules by themselves, over a store of real files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.conftest import in_a_folder

from fletching.engine.reading import segment_sharing
from fletching.errors import CorruptObjectError
from fletching.protocol.messages.changes import DeleteRows, DropColumns
from fletching.protocol.messages.mapped_rows import (
    SegmentRun,
    ServiceRun,
    decode_mapped_rows,
    encode_mapped_rows,
)
from fletching.protocol.messages.requests import ReadTable

SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string())])


def rows(start: int, count: int) -> pa.RecordBatch:
    return pa.record_batch(
        [range(start, start + count), [str(n) for n in range(start, start + count)]], schema=SCHEMA
    )


def share(house: Any, session: str | None = None, **options: Any) -> Any:
    request = ReadTable(table=house.table, session_id=session or house.open_read(), **options)
    return house.engine.share(request)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are shared, too."""
    monkeypatch.setattr(segment_sharing, "LEAST_BYTES", 0)


@pytest.fixture
def filled(house: Any) -> Any:
    house.create(SCHEMA)
    house.append([rows(0, 10), rows(10, 10)])
    house.append([rows(20, 10)])
    return house


@in_a_folder
def test_every_run_says_where_its_batches_lie_and_each_file_is_open(filled: Any) -> None:
    shared = share(filled)
    try:
        message = shared.message
        assert decode_mapped_rows(encode_mapped_rows(message), len(shared.descriptors)) == message
        assert [run.rows for run in message.runs] == [20, 10]
        assert not message.more
        for run, descriptor in zip(message.runs, shared.descriptors, strict=True):
            data = os.pread(descriptor, message.lengths[run.segment], 0)
            assert data[:6] == b"ARROW1"
            stored = [pa.ipc.open_file(data).get_batch(i) for i in range(len(run.entries()))]
            assert [batch.num_rows for batch in stored] == [rows for _, _, rows in run.entries()]
            with pytest.raises(OSError, match="Bad file"):
                os.write(descriptor, b"x")
    finally:
        shared.close()
    assert not shared.descriptors


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"offset": 0, "count": 30}, [(0, 20), (0, 10)]),
        ({"offset": 3, "count": 4}, [(3, 4)]),
        ({"offset": 13, "count": 9}, [(3, 7), (0, 2)]),
        ({"skip_rows": 19}, [(9, 1), (0, 10)]),
        ({"offset": 5, "skip_rows": 20}, [(5, 5)]),
    ],
)
@in_a_folder
def test_a_range_begins_and_ends_inside_batches(
    filled: Any, options: Any, expected: list[tuple[int, int]]
) -> None:
    shared = share(filled, **options)
    assert [(run.skip, run.rows) for run in shared.message.runs] == expected
    shared.close()


@pytest.mark.parametrize(
    "options",
    [{"max_batch_rows": 4}, {"max_batch_bytes": 1 << 20}, {"buffer_codec": "zstd"}, {"count": 0}],
    ids=str,
)
def test_what_must_be_made_is_not_shared(filled: Any, options: Any) -> None:
    assert share(filled, **options) is None


def test_few_rows_are_sent_instead(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_sharing, "LEAST_BYTES", 1 << 20)
    assert share(filled) is None


def test_a_filtered_read_is_not_shared(filled: Any) -> None:
    assert share(filled, filled.open_read(filter_predicate="n > 3")) is None


@in_a_folder
def test_no_segment_that_lost_rows_is_handed_out(filled: Any) -> None:
    before = filled.open_read()
    filled.engine.call(DeleteRows(table=filled.table, where="n = 25"))
    shared = share(filled)
    kept, left = shared.message.runs
    assert isinstance(kept, SegmentRun)
    assert left == ServiceRun(20, 9)
    assert len(shared.descriptors) == 1
    shared.close()
    # A session of before still shows the row.
    shared = share(filled, before)
    assert [run.rows for run in shared.message.runs] == [20, 10]
    shared.close()


@in_a_folder
def test_no_segment_with_a_dropped_column_is_handed_out(filled: Any) -> None:
    before = filled.open_read()
    filled.engine.call(DropColumns(table=filled.table, names=("s",)))
    assert share(filled) is None
    shared = share(filled, before)
    assert shared.message.rows == 30
    shared.close()
    filled.append([pa.record_batch({"n": [1, 2]})])
    shared = share(filled, offset=30)
    assert shared.message.rows == 2
    shared.close()


def test_where_the_first_rows_must_come_from_the_service_all_do(filled: Any) -> None:
    filled.engine.call(DeleteRows(table=filled.table, where="n = 5"))
    assert share(filled) is None


@in_a_folder
def test_a_reply_covers_so_much_and_says_that_there_is_more(
    filled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_sharing, "SHARED_BYTES", 1)
    shared = share(filled)
    assert (shared.message.rows, shared.message.more) == (10, True)
    shared.close()
    monkeypatch.setattr(segment_sharing, "SHARED_BYTES", 1 << 30)
    monkeypatch.setattr(segment_sharing, "MAX_SEGMENTS", 1)
    shared = share(filled)
    assert (shared.message.rows, shared.message.more) == (20, True)
    shared.close()


@in_a_folder
def test_damage_is_found_before_a_segment_is_shared(filled: Any) -> None:
    root = Path(filled.engine.context.store.root)
    for path in root.rglob("*.arrow"):
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 1
        path.write_bytes(data)
    with pytest.raises(CorruptObjectError):
        share(filled)
