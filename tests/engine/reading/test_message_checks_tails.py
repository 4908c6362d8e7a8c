"""The end of a remote segment: in one request, once, and never believed where it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from crc32c import crc32c

from fletching.catalog.table_rows import get_table
from fletching.engine.cache import Budget
from fletching.engine.reading.message_checks import MessageChecks, SegmentTails, recorded_checksums
from fletching.engine.writing import metadata_index
from fletching.errors import CorruptObjectError, StorageError, StorageFullError

BATCHES, BATCH_ROWS = 40, 100
ROWS = pa.table({"n": pa.array(range(BATCHES * BATCH_ROWS), pa.int64())})


class Ranged:
    """An object of which every range is a request.

    Attributes:
        asked: the ranges.
    """

    def __init__(self, key: str, data: bytes) -> None:
        self.key = key
        self.data = data
        self.length = len(data)
        self.asked: list[tuple[int, int]] = []

    def read(self, start: int, end: int) -> memoryview:
        self.asked.append((start, end))
        return memoryview(self.data)[start:end]

    view = read


@pytest.fixture(params=["indexed", "without an index"])
def segment(
    request: pytest.FixtureRequest, open_house: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Any]:
    """A segment's row and its bytes."""
    least = 0 if request.param == "indexed" else 1 << 60
    monkeypatch.setattr(metadata_index, "LEAST_SEGMENT_BYTES", least)
    house = open_house()
    house.create(ROWS.schema)
    house.append(ROWS.to_batches(max_chunksize=BATCH_ROWS))
    with house.engine.context.database.read() as connection:
        table = get_table(connection, house.table)
    row = house.engine._reading.whole_table(table)[1].segments[0]
    stored = house.engine.context.store.open(row.key)
    return row, Ranged(row.key, bytes(stored.read(0, stored.length)))


def test_a_store_that_fails_is_not_damage(segment: tuple[Any, Any]) -> None:
    """It is asked again; what is damaged is not."""
    row, stored = segment
    for failing in (StorageError("the store is away"), StorageFullError("no room")):

        class Away(Ranged):
            def read(self, start: int, end: int) -> memoryview:
                del start, end
                raise failing  # noqa: B023  # used within the round

        away: Any = Away(stored.key, stored.data)
        with pytest.raises(type(failing)) as caught:
            SegmentTails(Budget(1 << 20)).get(away, row)
        assert caught.value is failing
        with pytest.raises(type(failing)) as caught:
            MessageChecks().recorded(away, row, 8, stored.length)
        assert caught.value is failing
    assert SegmentTails(Budget(1 << 20)).get(stored, row).checksums


def indices(row: Any) -> list[list[int]]:
    result: list[list[int]] = np.frombuffer(row.batch_index, "<i8").reshape(-1, 4).tolist()
    return result


def test_it_says_what_the_file_has(segment: Any) -> None:
    row, stored = segment
    tails = SegmentTails(Budget(1 << 20))
    tail = tails.get(stored, row)
    assert len(stored.asked) == 1
    assert tails.get(stored, row) is tail
    assert len(stored.asked) == 1
    assert tail.checksums == recorded_checksums(stored)
    for number, (offset, metadata, body, _) in enumerate(indices(row)):
        message = stored.data[offset : offset + metadata + body]
        assert crc32c(message) == tail.checksums[1 + number]
        if tail.metadata is not None:
            assert bytes(tail.metadata[number]) == message[:metadata]
    assert (tail.metadata is None) == (tail.size_bytes == 40 * len(tail.checksums))


def test_every_byte_of_the_end_may_be_wrong(segment: Any) -> None:
    """Damage is found or changes nothing of what is said."""
    row, stored = segment
    right = SegmentTails(Budget(1 << 20)).get(stored, row)
    offset, metadata, body, _ = indices(row)[-1]
    result = 0
    for index in range(offset + metadata + body, stored.length, 7):
        data = bytearray(stored.data)
        data[index] ^= 0x20
        try:
            tail = SegmentTails(Budget(1 << 20)).get(Ranged(row.key, bytes(data)), row)  # type: ignore[arg-type]  # all that is asked
        except CorruptObjectError:
            result += 1
            continue
        # Where the name of the index is hit, there is none, and metadata is fetched batch by batch.
        assert tail.metadata in (None, right.metadata)
    assert result


@pytest.mark.parametrize("cut", [1, 6, 10, 100, 1000])
def test_a_file_that_was_cut_is_damage(segment: Any, cut: int) -> None:
    row, stored = segment
    with pytest.raises(CorruptObjectError):
        SegmentTails(Budget(1 << 20)).get(Ranged(row.key, stored.data[:-cut]), row)  # type: ignore[arg-type]  # likewise
