from __future__ import annotations

import types
from collections.abc import Generator
from typing import Any

import pyarrow as pa
import pytest

from fletching.client.reading import row_ends
from fletching.client.reading.row_ends import first_rows, left_with, released


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
    result = [n for batch in first_rows(source.batches(), limit) for n in batch["n"].to_pylist()]
    assert result == list(range(12))[:limit]
    assert source.taken == taken
    assert source.closed == bool(taken)


def test_whoever_leaves_ends_the_source_and_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    left: list[Any] = []

    def release(channel: Any, table: None, session_id: str) -> None:
        ended.append(session_id)
        left.append(channel)

    monkeypatch.setattr(row_ends, "release_quietly", release)
    nothing: Any = None
    # Whoever leaves early does not wait for the service: that is asked through another channel.
    channel: Any = types.SimpleNamespace(on_leaving=lambda work: work("last"))
    source = Source()
    batches = released(first_rows(source.batches(), 5), channel, nothing, "session")
    next(batches)
    assert not ended
    batches.close()
    assert (ended, source.closed) == (["session"], True)
    assert sum(b.num_rows for b in released(source.batches(), channel, nothing, "next")) == 12
    assert (ended, left) == (["session", "next"], ["last", channel])
    # Nobody has asked for a batch.
    released(source.batches(), channel, nothing, "unread").close()
    assert (ended, left) == (["session", "next", "unread"], ["last", channel, "last"])


@pytest.mark.parametrize("asked", [0, 1, 3])
def test_replies_that_nobody_has_taken_are_closed_with_the_rows(asked: int) -> None:
    closed: list[int] = []
    untaken: list[Any] = [types.SimpleNamespace(close=lambda: closed.append(1))]
    rows = left_with(Source().batches(), untaken)
    assert [next(rows).num_rows for _ in range(asked)] == [4] * asked
    assert not closed
    rows.close()
    assert (closed, untaken) == ([1], [])
    taken: list[Any] = []
    left_with(Source().batches(), taken).close()
