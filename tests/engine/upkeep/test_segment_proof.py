from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from crc32c import crc32c

from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.upkeep.segment_proof import proven_batches
from fletching.engine.writing.segment_writer import SegmentWriter
from fletching.errors import CorruptObjectError
from fletching.ipc import lowlevel
from fletching.objects.local import LocalStore

SCHEMA = pa.schema([("n", pa.int64())])
ROWS = (3, 40_000, 1, 200_000, 7)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(tmp_path)
    yield store
    store.close()


@pytest.fixture
def row(store: LocalStore) -> SegmentRow:
    """A segment of batches of some rows."""
    encoder = lowlevel.BatchEncoder(SCHEMA)
    writer = SegmentWriter(
        store.create("a"), encoder.schema_message, partition="", schema_version=1
    )
    for count in ROWS:
        (frame,) = encoder.encode(pa.record_batch([np.arange(count)], schema=SCHEMA))
        metadata, *body = (memoryview(piece).nbytes for piece in frame)
        writer.write_batch(
            frame, metadata_length=metadata, body_length=sum(body), rows=count, codec=None
        )
    segment = writer.complete()
    writer.commit()
    return segment.as_row(1)


def test_checksums_are_those_of_the_messages(store: LocalStore, row: SegmentRow) -> None:
    with store.open("a") as stored:
        made = proven_batches(stored, row)
        assert [rows for _, _, _, rows in made.index] == list(ROWS)
        for number, (start, *_) in enumerate(made.index):
            message = made.data[start : made.end(number)]
            assert made.checksums[number] == crc32c(message)
            assert made.before[number] == crc32c(made.data[:start])
            assert made.after[number] == crc32c(message, made.before[number])


def test_a_byte_that_differs_is_found(store: LocalStore, row: SegmentRow, tmp_path: Path) -> None:
    whole = (tmp_path / "a").read_bytes()
    for position in [0, 9, *range(200, len(whole), 100_003), len(whole) - 40, len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[position] ^= 4
        (tmp_path / "b").write_bytes(damaged)
        with store.open("b") as stored, pytest.raises(CorruptObjectError, match="checksum"):
            proven_batches(stored, row)
    (tmp_path / "b").write_bytes(whole[:-8])
    with store.open("b") as stored, pytest.raises(CorruptObjectError, match="bytes, not"):
        proven_batches(stored, row)


def test_a_catalog_with_other_messages_than_the_footer_is_refused(
    store: LocalStore, row: SegmentRow
) -> None:
    fewer = row._replace(batch_index=row.batch_index[:-32])
    with store.open("a") as stored, pytest.raises(CorruptObjectError, match="6 messages"):
        proven_batches(stored, fewer)


def test_bytes_that_change_behind_the_proof_get_no_valid_checksum(
    store: LocalStore, row: SegmentRow, tmp_path: Path
) -> None:
    with store.open("a") as stored:
        proven = proven_batches(stored, row)
        changed = bytearray(proven.data)
        changed[proven.end(3) - 9] ^= 1
        late = dataclasses.replace(proven, data=memoryview(changed))
        schema_message = lowlevel.BatchEncoder(SCHEMA).schema_message
        writer = SegmentWriter(store.create("b"), schema_message, partition="", schema_version=1)
        writer.write_stored(late, range(len(ROWS)), codec=None)
        segment = writer.complete()
        writer.commit()
    assert segment.crc32c == row.crc32c
    assert crc32c((tmp_path / "b").read_bytes()) != segment.crc32c
    with store.open("b") as stored, pytest.raises(CorruptObjectError, match="fails its checksum"):
        proven_batches(stored, segment.as_row(2))
