"""What a change with an idempotency key was, and which later ones are its repetitions."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from tests.engine.changes.test_change_conditions import rows, table

from fletching.catalog.version_rows import remember_change
from fletching.engine.changes.made_changes import (
    MAX_KEY_LENGTH,
    Intent,
    check_key,
    intent_of,
    remember,
    replayed,
)
from fletching.engine.writing.body_checksum import BodyChecksum
from fletching.errors import ConflictError, InvalidArgumentError, KeyReusedError
from fletching.protocol.messages.changes import (
    AlterColumn,
    Changed,
    DeleteRows,
    MergeRows,
    TruncateTable,
    UpdateRows,
)
from fletching.types import PartitionSpec, TableName

__all__ = ["rows", "table"]

T = TableName("demo", "t")
REPORT = Changed(version=1, rows_inserted=3, rows_updated=2, rows_deleted=1)
APPEND = Intent.of_rows("append", [("pt", "a")], 3, BodyChecksum(1, 2))


@pytest.mark.parametrize("key", [None, "k", "x" * MAX_KEY_LENGTH])
def test_keys(key: str | None) -> None:
    check_key(key)


@pytest.mark.parametrize("key", ["", "x" * (MAX_KEY_LENGTH + 1)])
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(InvalidArgumentError, match="1 to 200"):
        check_key(key)


def test_a_key_is_text() -> None:
    with pytest.raises(InvalidArgumentError, match="UTF-8"):
        check_key("a\udcff")


def test_a_repetition_gets_the_report_of_the_first(rows: Any, table: Any) -> None:
    remember(rows, "t", None, REPORT, APPEND, now=1.0)
    remember(rows, "t", "key", REPORT, APPEND, now=1.0)
    assert replayed(rows, "t", "key", APPEND) == REPORT
    assert replayed(rows, "t", "other", APPEND) is None
    assert replayed(rows, "t", None, APPEND) is None
    assert replayed(rows, "u", "key", APPEND) is None


def test_another_change_is_refused_and_told_what_the_first_was(rows: Any, table: Any) -> None:
    remember(rows, "t", "key", REPORT, APPEND, now=1.0)
    message = (
        r"'key' was used in version 1 .* append of 3 rows \(pt=a\).* append of 4 rows \(pt=a\)"
    )
    with pytest.raises(KeyReusedError, match=message) as refused:
        replayed(rows, "t", "key", Intent.of_rows("append", [("pt", "a")], 4))
    assert isinstance(refused.value, ConflictError)
    assert not refused.value.retryable


def test_what_an_earlier_release_kept_is_answered(rows: Any, table: Any) -> None:
    remember_change(rows, "t", "key", msgspec.json.encode(REPORT), 1.0)
    assert replayed(rows, "t", "key", APPEND) == REPORT


@pytest.mark.parametrize(
    ("other", "is_other"),
    [
        (Intent.of_rows("append", [("PT", "a")], 3, BodyChecksum(1, 2)), False),
        (Intent.of_rows("append", [("pt", "a")], 3, BodyChecksum(7, 3)), False),
        (Intent.of_rows("append", [("pt", "a")], 3), False),
        (Intent.of_rows("append", [("pt", "a")]), False),
        (Intent(operation="append"), False),
        (Intent.of_rows("overwrite", [("pt", "a")], 3, BodyChecksum(1, 2)), True),
        (Intent.of_rows("append", [("pt", "b")], 3, BodyChecksum(1, 2)), True),
        (Intent.of_rows("append", [], 3, BodyChecksum(1, 2)), True),
        (Intent.of_rows("append", [("pt", "a")], 0, BodyChecksum(1, 2)), True),
        (Intent.of_rows("append", [("pt", "a")], 3, BodyChecksum(1, 3)), True),
    ],
)
def test_only_what_is_known_of_both_is_compared(other: Intent, *, is_other: bool) -> None:
    assert APPEND.is_other(other) is is_other
    assert other.is_other(APPEND) is is_other


def test_requests_are_told_apart_by_every_field_that_is_no_condition() -> None:
    requests = [
        DeleteRows(table=T, where="n = 1"),
        DeleteRows(table=T, where="n = 2"),
        DeleteRows(table=T, where=f"n = 1 {'or n = 3 ' * 100}"),
        DeleteRows(table=T, where=f"n = 1 {'or n = 3 ' * 100}or n = 4"),
        UpdateRows(table=T, expressions={"n": "1"}),
        UpdateRows(table=T, expressions={"n": "1"}, where="n = 1"),
        UpdateRows(table=T, values=b"a" * 200),
        UpdateRows(table=T, values=b"a" * 200 + b"b"),
        TruncateTable(table=T),
        TruncateTable(table=T, partition=PartitionSpec.parse("pt=a")),
        MergeRows(table=T, session_id="s", on=("n",)),
        MergeRows(table=T, session_id="s", on=("n",), when_matched=None),
        AlterColumn(table=T, name="n"),
        AlterColumn(table=T, name="n", comment=""),
    ]
    intents = [intent_of(request, "change") for request in requests]
    for first, second in itertools.combinations(intents, 2):
        assert first.is_other(second), (first, second)
    for request, intent in zip(requests, intents, strict=True):
        conditions: dict[str, Any] = {"idempotency_key": "k", "if_version": 3}
        if isinstance(request, MergeRows):
            conditions["session_id"] = "another"  # a repetition writes its rows anew
        again = msgspec.structs.replace(request, **conditions)
        assert not intent_of(again, "change").is_other(intent)
        assert len(str(intent)) < 200


def test_rows_of_a_statement_are_told_apart_by_its_text() -> None:
    first, second = (Intent.of_statement("append", text) for text in ("select 1", "select 2"))
    assert first.is_other(second)
    assert not first.is_other(Intent.of_statement("append", "select 1"))
