"""What many messages hold is looked at together as it is one by one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tests.ipc.conftest import stream_of

from fletching import ipc
from fletching.errors import InvalidDataError
from fletching.ipc import bulk_reading
from fletching.ipc.bulk_contents import at_steps, rows_at


def test_rows_are_the_bytes_at_their_places() -> None:
    data = np.arange(100, dtype=np.uint8)
    for starts in ([0, 10, 20], [3, 4, 5], [7], [90, 40, 41], [5, 5, 5], [20, 10, 0], [90, 95]):
        rows = rows_at(data, np.array(starts), 5)
        assert rows.tolist() == [list(range(start, start + 5)) for start in starts]


@pytest.mark.parametrize("starts", [[90, 96], [-10, 0, 10], [96], [0, 200, 400]])
def test_no_row_leaves_the_data(starts: list[int]) -> None:
    data = np.arange(100, dtype=np.uint8)
    if min(starts) < 0:
        # As numpy counts: from the end, and never in front of the data.
        assert rows_at(data, np.array(starts), 5).max() < 100
        return
    with pytest.raises((ValueError, IndexError, TypeError)):
        rows_at(data, np.array(starts), 5)
    with pytest.raises((ValueError, TypeError)):
        at_steps(data, 90, 6, 2, 5)


def _texts(
    count: int, *, equal: bool, odd: str | None = None, at: int = -1
) -> list[pa.RecordBatch]:
    batches = []
    for number in range(count):
        word = "abcdefgh" if equal else "abcdefgh" + "i" * (number % 3)
        texts = [word] * 9
        if odd is not None and number == at % count:
            texts[-1] = odd
        batches.append(pa.record_batch({"s": texts, "n": np.full(9, -1)}))
    return batches


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("at", [0, 1, 30, 199])
def test_text_of_any_message_is_looked_at(equal: bool, at: int) -> None:
    count = 200
    batches = _texts(count, equal=equal, odd="abcdefgé"[: 8 - 1] + "é", at=at)
    assert list(ipc.read_stream(stream_of(batches))) == batches

    marked = _texts(count, equal=equal, odd="abcdeXYZ", at=at)
    data = bytearray(stream_of(marked))
    position = data.index(b"XYZ")
    data[position] = 0xFF
    assert count > bulk_reading.MIN_MESSAGES
    with pytest.raises(InvalidDataError):
        ipc.read_stream(bytes(data))


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 64, 65])
def test_nulls_are_counted_in_the_bits_that_stand_for_rows(rows: int) -> None:
    values = [None if row % 3 == 0 else row for row in range(rows)]
    batches = [pa.record_batch({"n": pa.array(values, pa.int64())})] * 40
    data = bytearray(stream_of(batches))
    assert list(ipc.read_stream(bytes(data))) == batches
    *_, last = (m for m in ipc.messages(bytes(data)) if m.type.name == "RECORD_BATCH")
    start = last.end - last.body_length
    # Bits behind the last row stand for nothing.
    if rows % 8:
        data[start + rows // 8] ^= 0x80
        assert list(ipc.read_stream(bytes(data))) == batches
    data[start] ^= 1
    with pytest.raises(InvalidDataError):
        ipc.read_stream(bytes(data))
