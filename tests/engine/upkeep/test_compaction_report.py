"""What a compaction did, in words, and whether a purge left nothing of what was to go."""

from __future__ import annotations

import pytest

from fletching.engine.upkeep.compaction_report import CompactionReport, compaction_summary
from fletching.errors import ConflictError, CorruptObjectError
from fletching.types import TableName

T = TableName("demo", "t")


def test_a_summary_counts_segments() -> None:
    assert compaction_summary([CompactionReport(T)]) == "there was nothing to merge"
    reports = [
        CompactionReport(T, merged=3, made=1, bytes=10),
        CompactionReport(T, merged=2, made=1),
    ]
    assert compaction_summary(reports) == "5 segments became 2 (10 bytes)"
    assert compaction_summary([CompactionReport(T, merged=1, made=1)]).startswith(
        "1 segment became"
    )


def test_two_reports_are_one() -> None:
    first = CompactionReport(T, 2, 1, 10, damaged=("a",), skipped="busy", key_runs=3)
    more = CompactionReport(T, 4, 2, 5, damaged=("a", "b"))
    assert first.with_more(more) == CompactionReport(
        T, 6, 3, 15, damaged=("a", "b"), skipped="", key_runs=3
    )


def test_what_is_left_of_a_purge_is_an_error() -> None:
    CompactionReport(T, damaged=("a",), skipped="busy").check_purged()
    with pytest.raises(ConflictError, match=r"2 segments of table t still have .*\(a, b\): busy"):
        CompactionReport(T, unpurged=("a", "b"), skipped="busy").check_purged()
    with pytest.raises(ConflictError, match=r"1 segment .* still has .*left alone"):
        CompactionReport(T, unpurged=("a",)).check_purged()
    with pytest.raises(CorruptObjectError, match="b is damaged") as caught:
        CompactionReport(T, unpurged=("a",), damaged=("b",)).check_purged()
    assert caught.value.key == "b"


def test_problems_name_what_is_damaged_and_what_is_left() -> None:
    report = CompactionReport(T, damaged=("a",), unpurged=("a", "b"))
    assert [problem[0] for problem in report.problems] == ["a", "a", "b"]
    assert CompactionReport(T).problems == []
