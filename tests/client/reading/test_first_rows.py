"""A scan's batches end at its limit, and with their end, or with whoever leaves them, the source ends."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pyarrow as pa
import pytest

from fletching.client.reading import first_rows as module
from fletching.client.reading.first_rows import first_rows, released


class Source:
    """Three batches of four rows, and how far they were taken."""

    def __init__(self) -> None:
        self.taken = 0
        self.closed = False

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        try:
            for start in (0, 4, 8):
                self.taken += 1
                yield pa.record_batch({"n": list(range(start, start + 4))})
        finally:
            self.closed = True


@pytest.mark.parametrize(
    ("limit", "taken"), [(None, 3), (0, 0), (1, 1), (4, 1), (5, 2), (12, 3), (99, 3)]
)
def test_no_more_is_taken_than_the_limit_needs(limit: int | None, taken: int) -> None:
    source = Source()
    found = [n for batch in first_rows(source.batches(), limit) for n in batch["n"].to_pylist()]
    assert found == list(range(12))[:limit]
    assert source.taken == taken
    assert source.closed == bool(taken)


def test_whoever_leaves_ends_the_source_and_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    monkeypatch.setattr(
        module, "release_quietly", lambda _channel, _table, name: ended.append(name)
    )
    nothing: Any = None
    source = Source()
    batches = released(first_rows(source.batches(), 5), nothing, nothing, "session")
    next(batches)
    assert not ended
    batches.close()
    assert (ended, source.closed) == (["session"], True)
    assert sum(b.num_rows for b in released(source.batches(), nothing, nothing, "next")) == 12
    assert ended == ["session", "next"]
