"""Writers: who is known, who was silent too long, and whose objects may still be recorded."""

from __future__ import annotations

from sqlalchemy import Connection

from fletching.catalog.writer_rows import (
    WriterRow,
    forget_writer_row,
    known_writers,
    list_writers,
    lives,
    missing_writers,
    register_writer,
    remove_silent_writers,
    renew_writer,
    silent_writers,
)


def test_a_writer_is_known_until_it_ends(rows: Connection) -> None:
    row = WriterRow("w1", 10.0, 10.0)
    register_writer(rows, row)
    register_writer(rows, WriterRow("w2", 5.0, 11.0, "srv", "http://x", "1.2"))
    assert [row.id for row in list_writers(rows)] == ["w2", "w1"]  # by age
    assert known_writers(rows) == {"w1", "w2"}
    assert missing_writers(rows, ["w1", "w3"]) == {"w3"}
    forget_writer_row(rows, "w1")
    assert known_writers(rows) == {"w2"}
    assert not renew_writer(rows, "w1", 20.0)


def test_registering_again_says_what_it_is_by_now(rows: Connection) -> None:
    register_writer(rows, WriterRow("w", 10.0, 10.0))
    register_writer(rows, WriterRow("w", 99.0, 12.0, "srv", "http://x", "1.2"))
    assert list_writers(rows) == [WriterRow("w", 10.0, 12.0, "srv", "http://x", "1.2")]


def test_the_silent_are_told_from_the_living(rows: Connection) -> None:
    register_writer(rows, WriterRow("old", 0.0, 50.0))
    register_writer(rows, WriterRow("new", 0.0, 50.0))
    assert renew_writer(rows, "new", 61.0)
    assert lives(rows, "new", silent_since=60.0)
    assert not lives(rows, "old", silent_since=60.0)
    assert not lives(rows, "old", silent_since=50.0)  # at the very moment is silent since then
    assert silent_writers(rows, silent_since=60.0) == {"old"}
    assert known_writers(rows) == {"old", "new"}
    assert remove_silent_writers(rows, silent_since=60.0) == {"old"}
    assert known_writers(rows) == {"new"}
    assert missing_writers(rows, ["old", "new"]) == {"old"}
    assert missing_writers(rows, []) == frozenset()
