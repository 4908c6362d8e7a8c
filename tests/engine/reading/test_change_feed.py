"""Rows of a version and its changes up to another are the rows of the other, whatever happened between."""

from __future__ import annotations

import datetime as dt
import pickle
import random
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.catalog.read_session_rows import count_open_read_sessions
from fletching.client import Table
from fletching.engine.reading import kept_snapshots
from fletching.engine.reading.change_feed import changes_between
from fletching.errors import FletchingError, StorageError

SCHEMA = pa.schema([pa.field("k", pa.int64(), nullable=False), ("v", pa.int64())])


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "keyed"])
def history(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A table with a random history, compactions among it."""
    rng = random.Random(11)
    folder = tmp_path_factory.mktemp("feed") / "data"
    with fletching.connect(folder, create=True) as client:
        table = client.create_table("t", SCHEMA, primary_key=["k"] if request.param else ())
        transport: Any = table.channel.transport
        for step in range(14):
            if step % 5 == 4:
                table.delete(f"k % 4 = {step % 4}")
            elif step % 7 == 6:
                transport.engine.compact(table.full_name, min_segments=2, purge=True)
            elif step % 6 == 5:
                table.update({"v": "v + 1"}, where="k < 6")
            else:
                keys = rng.sample(range(12), 5)
                table.append(pa.table({"k": keys, "v": [100 * step + k for k in keys]}, SCHEMA))
        yield table


def rows(table: Table, version: int) -> Counter[tuple[int, int]]:
    result = table.as_of(version).scan().to_table()
    return Counter(zip(result["k"].to_pylist(), result["v"].to_pylist(), strict=True))


def test_what_was_and_its_changes_are_what_came(history: Table) -> None:
    newest = history.versions()[0].version
    everything = {version: rows(history, version) for version in range(newest + 1)}
    for since in range(newest):
        for until in {since + 1, newest}:
            left = everything[since].copy()
            feed = history.changes(since=since, until=until).to_table()
            versions = feed["_commit_version"].to_pylist()
            assert versions == sorted(versions)
            for row in feed.to_pylist():
                gone = row["_change_type"] in {"delete", "update_preimage"}
                left[row["k"], row["v"]] += -1 if gone else 1
                assert left[row["k"], row["v"]] >= 0, "something went that was not there"
            assert +left == everything[until]


def test_upkeep_is_no_change(history: Table) -> None:
    for info in history.versions():
        if info.version and not info.data_change:
            feed = history.changes(since=info.version - 1, until=info.version)
            assert feed.to_table().num_rows == 0


def test_in_a_table_with_a_key_the_two_sides_of_an_update_are_told(history: Table) -> None:
    feed = history.changes(since=0).to_table().to_pylist()
    keyed = any(row["_change_type"].startswith("update") for row in feed)
    assert keyed is bool(history.info.primary_key)
    for info in history.versions():
        kinds = Counter(
            row["_change_type"] for row in feed if row["_commit_version"] == info.version
        )
        if keyed and info.version:
            assert kinds["update_preimage"] == kinds["update_postimage"]


def test_others_write_while_the_changes_of_a_session_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which reads the keys of rows; a session whose changes cannot be found out leaves nothing."""
    with fletching.connect(tmp_path / "data", create=True) as client:
        table = client.create_table("t", SCHEMA, primary_key=["k"])
        table.append({"k": [1, 2], "v": [1, 2]})
        table.append({"k": [2, 3], "v": [3, 3]})
        transport: Any = table.channel.transport
        database = transport.engine.context.database

        def slow(*arguments: Any, **options: Any) -> Any:
            with database.write(wait_seconds=0.1):
                pass
            return changes_between(*arguments, **options)

        monkeypatch.setattr(kept_snapshots, "changes_between", slow)
        assert table.changes(since=1).to_table().num_rows == 3

        def broken(*_: Any, **__: Any) -> Any:
            raise StorageError("the disk")

        monkeypatch.setattr(kept_snapshots, "changes_between", broken)
        with database.read() as connection:
            before = count_open_read_sessions(connection, 0.0, 100)
        with pytest.raises(FletchingError, match="the disk"):
            table.changes(since=0).to_table()
        with database.read() as connection:
            assert count_open_read_sessions(connection, 0.0, 100) == before


def test_a_feed_that_is_open_outlives_its_versions(tmp_path: Path) -> None:
    """Another process plans the session anew, after retention has forgotten what it reads."""
    with fletching.connect(tmp_path / "data", create=True) as client:
        table = client.create_table("t", SCHEMA, primary_key=["k"])
        for number in range(4):
            table.append({"k": [number, number + 1], "v": [number, number]})
        session = table.changes(since=1).session()
        expected = session.to_table()
        assert set(expected["_commit_version"].to_pylist()) == {2, 3, 4}
        held = pickle.dumps(session)
        table.append({"k": [9], "v": [9]})
        assert table.expire_versions(dt.timedelta())["oldest_version"] == 5
    with fletching.connect(tmp_path / "data"):
        assert pickle.loads(held).to_table() == expected


def test_rows_that_went_with_a_wider_type_are_in_the_feed(tmp_path: Path) -> None:
    """A restore takes a column back to where its rows of the meantime do not fit."""
    with fletching.connect(tmp_path / "data", create=True) as client:
        table = client.create_table("t", "id BIGINT, n INT, d DECIMAL(5,2), s STRING NOT NULL")
        table.append({"id": [1], "n": [1], "d": [Decimal("1.50")], "s": ["a"]})
        table.alter_column("n", type="BIGINT")
        table.alter_column("d", type="DECIMAL(12,2)")
        table.alter_column("s", nullable=True)
        big = {"id": 2, "n": 1 << 40, "d": Decimal("1234567.50"), "s": None}
        table.append([big])
        wide = table.versions(1)[0].version
        table.restore(1)
        for since in (1, wide):
            feed = table.changes(since).to_table()
            assert feed.schema.field("n").type == pa.int64()
            assert feed.schema.field("d").type == pa.decimal128(12, 2)
            assert feed.schema.field("s").nullable
            gone = [row for row in feed.to_pylist() if row["_change_type"] == "delete"]
            assert [{name: row[name] for name in big} for row in gone] == [big]
        assert [each.changes.count() for each in table.watch(since=wide, timeout=0)] == [1]
        assert table.changes(0, 1).to_table().schema.field("n").type == pa.int32()
