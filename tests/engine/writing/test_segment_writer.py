from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from crc32c import crc32c

from fletching.engine.writing import segment_writer
from fletching.engine.writing.segment_writer import SegmentWriter
from fletching.engine.writing.stored_batches import StoredBatches
from fletching.ipc import lowlevel
from fletching.objects.local import LocalStore
from fletching.objects.write_behind import WriteBehindQueue


@pytest.mark.parametrize("behind", [False, True], ids=["at once", "behind"])
@pytest.mark.parametrize("rows", [[10], [400_000], [10, 400_000, 7, 131_065, 3_000_000, 1]])
def test_length_and_checksum_are_the_files(tmp_path: Path, rows: list[int], behind: bool) -> None:
    schema = pa.schema([("n", pa.int64())])
    encoder = lowlevel.BatchEncoder(schema)
    later = WriteBehindQueue() if behind else None
    store = LocalStore(tmp_path)
    writer = SegmentWriter(
        store.create("a"), encoder.schema_message, partition="", schema_version=1, write_queue=later
    )
    for count in rows:
        batch = pa.record_batch([np.arange(count)], schema=schema)
        (frame,) = encoder.encode(batch)
        length = sum(memoryview(piece).nbytes for piece in frame)
        metadata = memoryview(frame[0]).nbytes
        writer.write_batch(
            frame,
            metadata_length=metadata,
            body_length=length - metadata,
            rows=count,
            codec=None,
        )
    if later is not None:
        later.flush()
    segment = writer.complete()
    writer.commit()
    data = (tmp_path / "a").read_bytes()
    assert segment.length == len(data)
    assert segment.crc32c == crc32c(data)
    assert pa.ipc.open_file(data).read_all()["n"].to_pylist()[-1] == rows[-1] - 1
    store.close()


@pytest.mark.parametrize("at_once", [1, 1000, 1 << 30])
def test_stored_messages_become_what_they_are_one_by_one(
    tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neighbours in one write, and others behind a gap."""
    monkeypatch.setattr(segment_writer, "_WRITTEN_BYTES", at_once)
    schema = pa.schema([("n", pa.int64())])
    encoder = lowlevel.BatchEncoder(schema)
    store = LocalStore(tmp_path)

    def writer(key: str) -> SegmentWriter:
        sink = store.create(key)
        return SegmentWriter(sink, encoder.schema_message, partition="", schema_version=1)

    stored = bytearray(b"else" * 2)
    batches, one_by_one = [], writer("alone")
    for number, count in enumerate([10, 70_000, 3, 1, 40_000]):
        (frame,) = encoder.encode(pa.record_batch([np.arange(count)], schema=schema))
        metadata, *body = (memoryview(piece).nbytes for piece in frame)
        stored += bytes(64) * (number == 2)
        batches.append((len(stored), metadata, sum(body), count))
        stored += b"".join(map(bytes, frame))
        one_by_one.write_batch(
            frame, metadata_length=metadata, body_length=sum(body), rows=count, codec="lz4"
        )
    together = writer("together")
    spans = [(start, start + metadata + body) for start, metadata, body, _ in batches]
    known = StoredBatches(
        memoryview(stored),
        [list(each) for each in batches],
        [crc32c(stored[start:end]) for start, end in spans],
        [crc32c(stored[:start]) for start, _ in spans],
        [crc32c(stored[:end]) for _, end in spans],
    )
    together.write_stored(known, range(4), codec="lz4")
    together.write_stored(known, range(4, 5), codec="lz4")
    together.write_stored(known, range(5, 5), codec="lz4")
    expected, made = one_by_one.complete(), together.complete()
    one_by_one.commit()
    together.commit()
    assert made == dataclasses.replace(expected, key="together")
    assert (tmp_path / "together").read_bytes() == (tmp_path / "alone").read_bytes()
    store.close()
