"""Merges: every pair of clauses over nulls, repeated keys and columns, against the rule written out in Python."""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.changes.conftest import MakeTable

from fletching.client import Table
from fletching.engine.changes import row_merge
from fletching.engine.changes.pinned_table import PinnedTable
from fletching.engine.changes.row_merge import RowMerge
from fletching.errors import InvalidArgumentError, UsageError

SCHEMA = pa.schema([("k", pa.string()), ("n", pa.int64()), ("s", pa.string())])
THERE = [("a", 1, "t1"), ("b", 2, "t2"), ("b", 3, "t3"), (None, 4, "t4"), ("c", 5, "t5")]
COMES = [("b", 20, "s1"), ("d", 30, "s2"), (None, 40, "s3"), ("a", 50, "s4")]


def rows(*tuples: tuple[Any, ...]) -> pa.Table:
    columns = list(zip(*tuples, strict=True))
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], SCHEMA)


def content(table: Table) -> list[tuple[Any, ...]]:
    return sorted((tuple(r.values()) for r in table.scan().to_table().to_pylist()), key=repr)


def expected(matched: str | None, absent: str | None, rest: str | None) -> list[tuple[Any, ...]]:
    by_key = {row[0]: row for row in COMES if row[0] is not None}
    left = []
    for row in THERE:
        if row[0] in by_key:
            left += {"update": [by_key[row[0]]], "delete": [], None: [row]}[matched]
        elif rest != "delete":
            left.append(row)
    keys = {row[0] for row in THERE if row[0] is not None}
    left += [row for row in COMES if absent == "insert" and row[0] not in keys]
    return sorted(left, key=repr)


@pytest.mark.parametrize(
    ("matched", "absent", "rest"),
    list(itertools.product(["update", "delete", None], ["insert", None], ["delete", None])),
)
def test_each_clause_does_what_it_says(
    new_table: MakeTable, matched: Any, absent: Any, rest: Any
) -> None:
    table = new_table(SCHEMA, rows(*THERE[:3]), rows(*THERE[3:]))
    table.merge(
        rows(*COMES), on=["k"], when_matched=matched, when_not_matched=absent,
        when_not_matched_by_source=rest,
    )  # fmt: skip
    assert content(table) == expected(matched, absent, rest)


def test_single_columns_leave_the_others_as_they_are(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, rows(*THERE))
    table.merge(rows(("a", 10, "x"), ("e", 60, "y")).select(["k", "s"]), on=["k"], columns=["s"])
    changed = [("a", 1, "x"), *THERE[1:], ("e", None, "y")]
    assert content(table) == sorted(changed, key=repr)


@pytest.mark.parametrize(
    ("on", "options"),
    [
        (["k"], {}),
        (["n"], {}),
        (["k", "n"], {"when_matched": "delete"}),
        (["k"], {"columns": ["s"]}),
        (["n"], {"when_not_matched": None}),
        (["k"], {"when_matched": None, "when_not_matched_by_source": "delete"}),
        (["n"], {"when_not_matched_by_source": "delete"}),
    ],
)
def test_of_many_rows_some_meet_the_table_at_a_time(
    new_table: MakeTable, monkeypatch: pytest.MonkeyPatch, on: list[str], options: dict[str, Any]
) -> None:
    there = [(f"k{number % 13}", number if number % 7 else None, "old") for number in range(40)]
    comes = [(f"k{number}", number, "new") for number in range(9, 21)] + [(None, None, "none")]
    reports, contents, held = [], [], []
    counted = RowMerge._keys

    def keys(merge: RowMerge, bits: int, part: int) -> Any:
        result = counted(merge, bits, part)
        held.append(len(result.numbers))
        return result

    monkeypatch.setattr(RowMerge, "_keys", keys)
    for at_once in (1 << 20, 4):
        monkeypatch.setattr(row_merge, "KEYS_AT_ONCE", at_once)
        table = new_table(SCHEMA, rows(*there))
        report = table.merge(rows(*comes), on=on, **options)
        reports.append((report.rows_inserted, report.rows_updated, report.rows_deleted))
        contents.append(content(table))
    assert reports[0] == reports[1]
    assert contents[0] == contents[1]
    assert held[0] == sum(held[1:])
    assert len(held) == 5
    upserted = []
    for at_once in (1 << 20, 4):
        monkeypatch.setattr(row_merge, "KEYS_AT_ONCE", at_once)
        table = new_table(SCHEMA, rows(*there))
        table.upsert(rows(*comes, *comes[2:5], *comes), on=on)
        upserted.append(content(table))
    assert upserted[0] == upserted[1]


@pytest.mark.parametrize("at_once", [1, 9, 1 << 16])
@pytest.mark.parametrize("on", ["k", "n"])
def test_rows_of_many_batches_are_searched_together(
    new_table: MakeTable, monkeypatch: pytest.MonkeyPatch, at_once: int, on: str
) -> None:
    """However many at once: each row of the data meets its own, in whatever batch they are."""
    monkeypatch.setattr(row_merge, "_NEAR_AT_ONCE", at_once)
    there = rows(*((f"k{number % 70}", number, "old") for number in range(90)))
    table = new_table(SCHEMA)
    for start in (0, 50):
        few = there.slice(start, 50).to_batches(max_chunksize=7)
        table.append(pa.RecordBatchReader.from_batches(SCHEMA, few))
    table.delete("n % 9 = 4")
    report = table.merge(
        rows(*((f"k{number}", number, "new") for number in range(3, 97, 5))),
        on=[on],
        columns=["s"],
        when_not_matched=None,
    )
    wanted = []
    for number in (number for number in range(90) if number % 9 != 4):
        meets = (number % 70 if on == "k" else number) in range(3, 97, 5)
        wanted.append((f"k{number % 70}", number, "new" if meets else "old"))
    assert content(table) == sorted(wanted, key=repr)
    assert report.rows_updated == sum(row[2] == "new" for row in wanted)


def test_two_rows_for_one_are_refused_by_name(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, rows(*THERE))
    with pytest.raises(InvalidArgumentError, match="k='c'; nothing was changed"):
        table.merge(rows(("c", 1, "x"), ("d", 1, "x"), ("c", 2, "y")), on=["k"])
    assert content(table) == sorted(THERE, key=repr)
    assert table.versions()[0].version == 1


def test_rows_are_matched_by_several_columns(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, rows(*THERE))
    report = table.merge(rows(("b", 3, "x"), ("b", 9, "y"), ("c", None, "z")), on=["K", "n"])
    assert (report.rows_updated, report.rows_inserted) == (1, 2)
    merged = [("b", 3, "x") if row == ("b", 3, "t3") else row for row in THERE]
    assert content(table) == sorted([*merged, ("b", 9, "y"), ("c", None, "z")], key=repr)


def test_a_key_is_kept_unique(new_table: MakeTable) -> None:
    schema = pa.schema(
        [SCHEMA.field(0), pa.field("n", pa.int64(), nullable=False), SCHEMA.field(2)]
    )
    table = new_table(schema, rows(("a", 1, "x"), ("b", 2, "y")).cast(schema), primary_key=["n"])
    with pytest.raises(InvalidArgumentError, match="beside another with its primary key"):
        table.merge(rows(("c", 2, "z")).cast(schema), on=["k"])
    table.merge(rows(("b", 3, "z")).cast(schema), on=["k"])
    assert content(table) == [("a", 1, "x"), ("b", 3, "z")]


@pytest.mark.parametrize(
    ("on", "clauses"),
    [
        ([], {}),
        (["nothing"], {}),
        (["k"], {"when_matched": "insert"}),
        (["k"], {"when_not_matched": "delete"}),
        (["k"], {"when_not_matched_by_source": "update"}),
    ],
)
def test_clauses_and_columns_that_cannot_be(
    new_table: MakeTable, on: list[str], clauses: dict[str, Any]
) -> None:
    table = new_table(SCHEMA, rows(*THERE))
    with pytest.raises((InvalidArgumentError, UsageError)):
        table.merge(rows(*COMES), on=on, **clauses)
    assert content(table) == sorted(THERE, key=repr)


def test_replacing_takes_rows_that_fulfil_the_predicate_alone(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, rows(*THERE))
    with pytest.raises(InvalidArgumentError, match="1 of the 2 rows that come do not satisfy"):
        table.overwrite(rows(("b", 9, "x"), ("c", 1, "y")), where="k = 'b'")
    report = table.overwrite(rows(("b", 9, "x")), where="k = 'b'")
    assert (report.rows_inserted, report.rows_deleted) == (1, 2)
    kept = [row for row in THERE if row[0] != "b"]
    assert content(table) == sorted([*kept, ("b", 9, "x")], key=repr)


@pytest.mark.parametrize("key", [["id"], []])
def test_partitions_that_no_row_is_of_are_not_opened(
    new_table: MakeTable, monkeypatch: pytest.MonkeyPatch, key: list[str]
) -> None:
    table = new_table(
        "id BIGINT NOT NULL, n BIGINT, v STRING", partition_by=["pt"], primary_key=key
    )
    table.append([{"id": i, "n": i, "v": f"{pt}{i}", "pt": pt} for pt in "abc" for i in range(3)])
    opened: set[str] = set()
    original = PinnedTable.reader

    def noting(self: PinnedTable, index: int) -> Any:
        opened.add(self.snapshot.segments[index].partition)
        return original(self, index)

    monkeypatch.setattr(PinnedTable, "reader", noting)
    came = [{"id": 1, "v": "new", "pt": "b"}, {"id": 9, "v": "more", "pt": "d"}]
    table.upsert(came, on=["id"], columns=["v"])
    assert opened <= {'["b"]', '["d"]'}
    opened.clear()
    table.merge(came[:1], on=["id", "pt"], when_matched="update", columns=["v"])
    assert opened == {'["b"]'}
    after = {(row["pt"], row["id"]): (row["n"], row["v"]) for row in table.to_table().to_pylist()}
    assert len(after) == 10
    assert (after["b", 1], after["a", 1]) == ((1, "new"), (1, "a1"))
    assert after["d", 9] == (None, "more")
