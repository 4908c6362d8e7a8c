"""What a table's changing verbs do, over HTTP and over a folder alike."""

from __future__ import annotations

import datetime as dt
import pickle
import random
import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from fletching.client import ChangeReport, Client, Table
from fletching.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidArgumentError,
    NoSuchTableError,
    NotFoundError,
    UsageError,
    VersionNotFoundError,
)

SCHEMA = pa.schema([("id", pa.int64()), ("v", pa.string())])


def rows(*ids: int) -> pa.Table:
    return pa.table({"id": list(ids), "v": [f"v{number}" for number in ids]}, SCHEMA)


def ids(source: Any) -> list[int]:
    result = source.scan() if isinstance(source, Table) else source
    listed: list[int] = result.to_table()["id"].to_pylist()
    return listed


def figures(report: ChangeReport) -> tuple[int, int, int, int]:
    return report.version, report.rows_inserted, report.rows_updated, report.rows_deleted


@pytest.fixture
def table(client: Client) -> Table:
    made = client.create_table("changing", SCHEMA)
    made.append(rows(*range(1, 11)))
    return made


def test_deleted_rows_are_gone_for_every_reader(client: Client, table: Table) -> None:
    report = table.delete("id = 3")
    assert figures(report) == (2, 0, 0, 1)
    assert int(report) == 1
    left = [number for number in range(1, 11) if number != 3]
    assert ids(table) == left
    assert table.count_rows() == 9
    assert table.count_rows(filter="id > 5") == 5
    assert table.preview(3)["id"].to_pylist() == [1, 2, 4]
    assert table.scan(limit=3).to_table()["id"].to_pylist() == [1, 2, 4]
    assert ids(table.scan(filter="id < 5", limit=3)) == [1, 2, 4]
    assert [split.row_count for split in table.scan().splits(3)]
    assert [n for split in table.scan().splits(3) for n in ids_of(split)] == left
    assert client.table("changing").reload().info.rows == 9


def ids_of(split: Any) -> list[int]:
    listed: list[int] = split.to_table()["id"].to_pylist()
    return listed


def test_a_change_of_nothing_makes_no_version(table: Table) -> None:
    before = table.versions()
    assert figures(table.delete("id = 99")) == (1, 0, 0, 0)
    assert figures(table.restore(1)) == (1, 0, 0, 0)
    assert table.versions() == before


def test_rows_for_which_a_predicate_is_null_stay(client: Client) -> None:
    table = client.create_table("nulls", SCHEMA)
    table.append(pa.table({"id": [1, 2, 3], "v": ["x", None, "y"]}, SCHEMA))
    assert table.delete("v = 'x'").rows_deleted == 1
    assert table.delete("NOT (v = 'x')").rows_deleted == 1
    assert ids(table) == [2]


def test_a_predicate_may_calculate(client: Client) -> None:
    table = client.create_table("calculated", SCHEMA)
    table.append(rows(*range(30)))
    assert table.delete("id % 10 = 0 AND length(v) > 1").rows_deleted == 3
    assert table.delete("id + 0 > 27").rows_deleted == 2
    with pytest.raises(InvalidArgumentError):
        table.delete("id + 1")
    assert table.count_rows() == 25


def test_offsets_count_visible_rows_in_many_small_batches(client: Client) -> None:
    table = client.create_table("offsets", SCHEMA)
    chance = random.Random(7)
    everything = rows(*range(2000))
    table.append(pa.Table.from_batches(everything.to_batches(max_chunksize=400)))
    gone = set(chance.sample(range(2000), 400)) | {0, 399, 400, 799, 1999}
    for start in range(0, 2000, 500):
        several = sorted(number for number in gone if start <= number < start + 500)
        table.delete(f"id IN ({', '.join(map(str, several))})")
    left = [number for number in range(2000) if number not in gone]
    assert ids(table) == left
    session = table.scan().splits(1)[0]
    for _ in range(40):
        start = chance.randrange(len(left))
        with session.to_reader(start) as reader:
            assert reader.read_all()["id"].to_pylist() == left[start:]
    for split_bytes in (1000, 5000):
        parts = table.scan().splits(split_bytes=split_bytes)
        assert [n for part in parts for n in ids_of(part)] == left


def test_batches_that_lost_rows_are_computed_while_others_are_used(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fletching.engine.reading import planning

    monkeypatch.setattr(planning, "THREADS_BYTES", 0)
    table = client.create_table("ahead", SCHEMA)
    batches = rows(*range(1000)).to_batches(max_chunksize=50)
    table.append(pa.RecordBatchReader.from_batches(SCHEMA, iter(batches)))
    table.delete("id % 7 = 0")
    expected = [number for number in range(1000) if number % 7]
    assert ids(table) == expected
    assert ids(table.scan(filter="id >= 500")) == [n for n in expected if n >= 500]
    reader = iter(table.scan())
    assert next(reader)["id"].to_pylist() == expected[:42]
    del reader


def test_versions_can_be_read_restored_and_named(table: Table) -> None:
    table.delete("id > 5")
    before = dt.datetime.now(dt.UTC)
    table.append(rows(20))
    table.create_tag("start", 1)
    assert ids(table.as_of(1)) == list(range(1, 11))
    assert ids(table.as_of("start")) == list(range(1, 11))
    assert ids(table.as_of(before)) == [1, 2, 3, 4, 5]
    assert ids(table.as_of(dt.datetime.now(dt.UTC))) == [1, 2, 3, 4, 5, 20]
    assert ids(table.as_of(0)) == []
    assert ids(table.scan(version="start", filter="id > 9")) == [10]
    old = table.as_of(2)
    assert (old.count_rows(), len(old.versions())) == (5, 4)
    assert ids(pickle.loads(pickle.dumps(old))) == [1, 2, 3, 4, 5]
    assert figures(table.restore("start")) == (4, 5, 0, 1)
    assert ids(table) == list(range(1, 11))
    assert [each.operation for each in table.versions(limit=2)] == ["restore", "append"]
    assert [each.version for each in table.versions()] == [4, 3, 2, 1, 0]
    assert all(each.committed_at.tzinfo for each in table.versions())
    assert table.tags() == {"start": 1}
    table.create_tag("start", 2, replace=True)
    table.drop_tag("start")
    assert table.tags() == {}


def test_what_a_version_cannot_be_is_refused(table: Table) -> None:
    for wrong in (-1, 99):
        with pytest.raises(VersionNotFoundError):
            table.as_of(wrong)
        with pytest.raises(VersionNotFoundError):
            table.restore(wrong)
        with pytest.raises(VersionNotFoundError):
            table.create_tag("x", wrong)
        with pytest.raises((VersionNotFoundError, InvalidArgumentError)):
            table.changes(wrong).to_table()
    with pytest.raises(VersionNotFoundError):
        table.as_of("nothing")
    with pytest.raises(VersionNotFoundError):
        table.as_of(dt.datetime(1999, 1, 1, tzinfo=dt.UTC))
    with pytest.raises(UsageError):
        table.as_of(dt.datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
    for name in ("1", "2026-01-01", "", "a b", "x" * 200):
        with pytest.raises(InvalidArgumentError):
            table.create_tag(name)
    table.create_tag("one")
    with pytest.raises(AlreadyExistsError):
        table.create_tag("one")
    with pytest.raises(NotFoundError):
        table.drop_tag("two")
    assert table.tags() == {"one": 1}
    assert len(table.versions()) == 2


def test_a_table_as_it_was_cannot_be_changed(table: Table) -> None:
    old = table.as_of(1)
    refused: list[Callable[[], object]] = [
        lambda: old.append(rows(1)),
        lambda: old.overwrite(rows(1)),
        lambda: old.delete("id = 1"),
        old.truncate,
        lambda: old.restore(0),
        lambda: old.scan(version=0),
    ]
    for change in refused:
        with pytest.raises(UsageError):
            change()
    assert len(table.versions()) == 2


def test_what_is_no_predicate_changes_nothing(table: Table) -> None:
    for wrong in ("", "   ", "nothing = 1", "id >", "id > 1; drop table x"):
        with pytest.raises(InvalidArgumentError):
            table.delete(wrong)
    assert ids(table) == list(range(1, 11))


def test_a_repeated_change_changes_nothing(table: Table) -> None:
    first = table.append(rows(50), idempotency_key="append-50")
    again = table.append(rows(50), idempotency_key="append-50")
    assert figures(first) == figures(again) == (2, 1, 0, 0)
    gone = table.delete("id < 3", idempotency_key="gone")
    table.append(rows(1))
    assert figures(table.delete("id < 3", idempotency_key="gone")) == figures(gone)
    assert ids(table) == [3, 4, 5, 6, 7, 8, 9, 10, 50, 1]
    with pytest.raises(InvalidArgumentError):
        table.delete("id = 1", idempotency_key="x" * 1000)


def test_a_change_can_ask_for_the_version_that_it_knows(table: Table) -> None:
    table.append(rows(11), if_version=1)
    refused: list[Callable[[], object]] = [
        lambda: table.append(rows(12), if_version=1),
        lambda: table.overwrite(rows(12), if_version=1),
        lambda: table.delete("id = 1", if_version=1),
        lambda: table.truncate(if_version=1),
        lambda: table.restore(0, if_version=1),
    ]
    for change in refused:
        with pytest.raises(ConflictError):
            change()
    with pytest.raises(VersionNotFoundError):
        table.delete("id = 1", if_version=9)
    assert ids(table) == list(range(1, 12))
    for number in range(12, 22):
        table.append(rows(number))
    known = table.versions(limit=1)[0].version
    table.compact()
    assert table.versions(limit=1)[0].operation == "compact"
    assert table.delete("id = 1", if_version=known).rows_deleted == 1


def test_partitions_keep_their_totals(client: Client) -> None:
    table = client.create_table("parted", SCHEMA, partition_by=["pt"])
    for name, numbers in (("a", (1, 2, 3)), ("b", (4, 5)), ("c", (6,))):
        table.append(rows(*numbers), f"pt={name}")
    assert figures(table.delete("pt = 'b'")) == (4, 0, 0, 2)
    assert figures(table.delete("id = 2 OR pt = 'c'")) == (5, 0, 0, 2)
    assert table.count_rows("pt=a") == 2
    assert table.count_rows("pt=b") == 0
    assert ids(table.scan(partitions="pt=a")) == [1, 3]
    assert ids(table.as_of(3).scan(partitions=["pt=b", "pt=c"])) == [4, 5, 6]
    assert table.truncate("pt=a").rows_deleted == 2
    table.restore(3)
    assert [table.count_rows(f"pt={name}") for name in "abc"] == [3, 2, 1]
    table.drop_partition("pt=b")
    assert ids(table) == [1, 2, 3, 6]
    table.restore(3)
    assert [str(each) for each in table.partitions()] == ["pt=a", "pt=b", "pt=c"]
    assert table.as_of(3).count_rows("pt=b") == 2


def test_batches_that_lost_no_row_are_sent_as_they_were_written(client: Client) -> None:
    table = client.create_table("verbatim", SCHEMA)
    batches = rows(*range(50)).to_batches(max_chunksize=10)
    table.append(pa.RecordBatchReader.from_batches(SCHEMA, iter(batches)))
    clean = [batch.serialize().to_pybytes() for batch in table.scan()]
    table.delete("id = 25")
    result = list(table.scan())
    assert [batch.num_rows for batch in result] == [10, 10, 9, 10, 10]
    for number in (0, 1, 3, 4):
        assert result[number].serialize().to_pybytes() == clean[number]


def test_an_open_session_reads_what_it_saw(table: Table) -> None:
    session = table.scan().session()
    (split,) = session.splits(1)
    table.delete("id > 3")
    table.compact(purge=True)
    table.expire_versions(dt.timedelta())
    for _ in range(2):
        assert ids_of(split) == list(range(1, 11))
    session.release()


def test_an_expression_that_fails_late_changes_nothing(client: Client) -> None:
    table = client.create_table("late", "id BIGINT, n BIGINT")
    values = {"id": list(range(100)), "n": [1] * 99 + [1 << 62]}
    batches = pa.table(values, table.schema).to_batches(max_chunksize=10)
    table.append(pa.RecordBatchReader.from_batches(table.schema, iter(batches)))
    before = table.versions()
    with pytest.raises(InvalidArgumentError):
        table.update({"n": "n * 4"})
    assert table.versions() == before
    assert table.count_rows(filter="n = 1") == 99


@pytest.mark.parametrize("gone", ["id = 3", "id % 2 = 0", "id > 1", "id < 1000"])
def test_rows_of_partition_columns_alone_are_as_many_as_are_left(client: Client, gone: str) -> None:
    table = client.create_table("parted", SCHEMA, partition_by=["pt"])
    for name, first in (("a", 0), ("b", 40)):
        table.append({"id": range(first, first + 40), "v": ["x"] * 40}, partition={"pt": name})
    table.delete(gone)
    left = table.count_rows()
    assert table.scan(columns=["pt"]).to_table().num_rows == left
    assert client.sql("select pt from parted").num_rows == left
    counted = client.sql("select pt, count(*) n from parted group by pt").to_table()
    assert sum(counted["n"].to_pylist()) == left


def test_partitions_of_a_version_are_those_that_had_rows(client: Client) -> None:
    table = client.create_table("parts", "id BIGINT", partition_by={"p": "STRING", "q": "STRING"})
    table.append({"id": [1, 2, 3], "p": ["a", "a", "b"], "q": ["x", "y", "x"]})
    table.delete("id = 2")
    table.drop_partition("p=b,q=x")
    table.append({"id": [4], "p": ["c"], "q": ["z"]})

    def partitions(version: int, prefix: str | None = None) -> list[tuple[str, int]]:
        return [(str(each), each.rows) for each in table.as_of(version).partitions(prefix)]

    assert partitions(0) == []
    assert partitions(1) == [("p=a,q=x", 1), ("p=a,q=y", 1), ("p=b,q=x", 1)]
    assert partitions(2, "p=a") == [("p=a,q=x", 1)]
    assert partitions(4) == [("p=a,q=x", 1), ("p=c,q=z", 1)]
    with pytest.raises(VersionNotFoundError):
        partitions(9)


def test_changes_lead_from_one_version_to_any_later_one(table: Table) -> None:
    table.delete("id IN (2, 4)")
    table.append(rows(4, 4))
    table.truncate()
    table.restore(3)
    for number in range(30, 42):
        table.append(rows(number))
    table.delete("id = 33")
    table.compact(purge=True)
    newest = table.versions(limit=1)[0].version
    for since in range(newest + 1):
        for until in range(since, newest + 1):
            assert applied(table, since, until) == sorted(ids(table.as_of(until)))
    kinds = table.changes(2, 3).to_table()["_change_type"].to_pylist()
    assert kinds == ["insert", "insert"]
    only = table.changes(0, filter="_change_type = 'delete' AND _commit_version = 2")
    assert ids(only) == [2, 4]
    assert table.changes(0, columns=["_commit_version", "id"]).to_table().num_columns == 2


def applied(table: Table, since: int, until: int) -> list[int]:
    result = ids(table.as_of(since))
    for change in table.changes(since, until).to_table().to_pylist():
        if change["_change_type"] in {"insert", "update_postimage"}:
            result.append(change["id"])
        else:
            result.remove(change["id"])
    return sorted(result)


def test_a_watcher_sees_every_change_once_and_no_upkeep(table: Table) -> None:
    for number in range(20, 32):
        table.append(rows(number))
    table.compact()
    table.delete("id = 20")
    seen = list(table.watch(since=1, timeout=0.3))
    assert [each.version for each in seen] == [*range(2, 14), 15]
    assert ids(seen[0].changes) == [20]
    assert seen[-1].changes.to_table()["_change_type"].to_pylist() == ["delete"]
    assert list(table.watch(timeout=0)) == []


def test_waiting_for_changes_keeps_nobody_from_reading(table: Table) -> None:
    seen: list[int] = []

    def watch() -> None:
        for change_set in table.watch(since=1, timeout=30):
            seen.append(change_set.version)
            return

    watchers = [threading.Thread(target=watch) for _ in range(12)]
    for watcher in watchers:
        watcher.start()
    for _ in range(5):
        assert table.count_rows() == 10
    table.append(rows(11))
    for watcher in watchers:
        watcher.join()
    assert seen == [2] * 12


def test_purged_rows_are_in_no_segment_and_still_in_older_versions(table: Table) -> None:
    table.delete("id = 3")
    table.compact(purge=True)
    (newest,) = table.versions(limit=1)
    assert (newest.operation, newest.data_change, newest.rows) == ("compact", False, 9)
    assert ids(table) == [1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert ids(table.as_of(1)) == list(range(1, 11))
    table.create_tag("kept", 1)
    table.append(rows(11))
    gone = table.expire_versions(dt.timedelta(), dry_run=True)
    assert gone["oldest_version"] == newest.version + 1
    assert table.expire_versions(dt.timedelta()) == gone
    assert ids(table.as_of("kept")) == list(range(1, 11))
    with pytest.raises(VersionNotFoundError):
        table.as_of(2)
    with pytest.raises(VersionNotFoundError):
        table.changes(1).to_table()
    table.drop_tag("kept")
    # The read sessions of this test still keep the version's rows, and nothing can name it.
    assert table.expire_versions(dt.timedelta())["objects"] == 0
    with pytest.raises(VersionNotFoundError):
        table.as_of(1)
    assert ids(table) == [1, 2, 4, 5, 6, 7, 8, 9, 10, 11]


def test_a_version_of_a_dropped_table_is_not_read_from_another_of_its_name(client: Client) -> None:
    def made(first: int) -> Table:
        return client.create_table("again", pa.table({"id": [first, first + 1]}))

    old = made(1)
    pinned, changes = old.as_of(1), old.changes(0)
    pickled = pickle.dumps(pinned.scan())
    assert ids(pinned) == [1, 2]
    client.drop_table("again")
    new = made(11)
    assert ids(new.as_of(1)) == [11, 12]
    for reads in (
        lambda: ids(pinned),
        lambda: list(changes.to_batches()),
        lambda: pickle.loads(pickled).to_table(),
        lambda: pinned.scan().splits(),
        lambda: pinned.scan(limit=1).to_table(),
    ):
        with pytest.raises(NoSuchTableError, match="another of its name"):
            reads()
