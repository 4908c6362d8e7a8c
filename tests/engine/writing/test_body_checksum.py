"""Two bodies are told apart where that is certain, by checksums that were made for storing them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from tests.engine.conftest import stream_bytes

from fletching import ipc
from fletching.engine.writing.body_checksum import BodyChecksum, BodyChecksums
from fletching.protocol.messages.requests import AppendRows

SCHEMA = pa.schema([("n", pa.int64())])


def messages(data: pa.RecordBatch) -> list[ipc.Message]:
    return list(ipc.messages(stream_bytes([data], data.schema)))


def checksum(*values: list[int] | None) -> BodyChecksum | None:
    result = BodyChecksums(messages(pa.record_batch({"n": [1]}))[0])
    for each in values:
        if each is None:
            result.give_up()
        else:
            result.add(64, 8 * len(each), len(each), hash(tuple(each)) & 0xFFFFFFFF)
    return result.result()


def test_the_same_layout_with_other_contents_is_another_body() -> None:
    first = checksum([1], [2, 3])
    assert first is not None
    for others, is_other in (
        ([[1], [2, 3]], False),
        ([[1], [2, 4]], True),
        ([[9], [2, 3]], True),
        ([[1, 2], [3]], False),  # nobody knows
        ([[1]], False),
    ):
        second = checksum(*others)
        assert second is not None
        assert first.is_other(second) is second.is_other(first) is is_other
    assert checksum([1], None, [2]) is None


def test_the_same_bytes_of_other_types_are_not_compared() -> None:
    bodies = []
    for values in (pa.array([1, 2], pa.int64()), pa.array([1, 2], pa.float64())):
        schema, batch = messages(pa.record_batch({"n": values}))
        body = BodyChecksums(schema)
        body.add_message(batch, 2)
        bodies.append(body.result())
    first, second = bodies
    assert first is not None
    assert second is not None
    assert not first.is_other(second)


def test_a_counted_message_has_the_checksum_that_it_is_stored_with(house: Any) -> None:
    house.create(SCHEMA)
    batch = pa.record_batch({"n": list(range(1000))})
    schema, message = messages(batch)
    counted = BodyChecksums(schema)
    counted.add_message(message, 1000)
    ingest = house.engine.open_ingest(AppendRows(table=house.table))
    ingest.decoder.feed(house.stream_bytes([batch], SCHEMA))
    ingest.accept(list(ingest.decoder))
    assert ingest._checksum == counted.result()
    ingest.finish()


def test_a_first_append_reads_no_body_for_it(house: Any, monkeypatch: Any) -> None:
    """The checksum of storing is taken; only a repetition is read, which is not stored."""
    house.create(SCHEMA)
    read: list[int] = []
    monkeypatch.setattr(BodyChecksums, "add_message", lambda _, __, rows: read.append(rows))

    def append() -> None:
        ingest = house.engine.open_ingest(AppendRows(table=house.table, idempotency_key="k"))
        ingest.decoder.feed(house.stream_bytes([pa.record_batch({"n": [1, 2]})], SCHEMA))
        ingest.accept(list(ingest.decoder))
        ingest.finish()

    append()
    assert read == []
    append()
    assert read == [2]
