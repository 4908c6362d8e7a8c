"""Any sequence of changes against a multiset of rows: every version that can be read is what it was."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.postgresql import Databases
from tests.processes import memory_or_disk

import fletching
from fletching.client import Client, Table
from fletching.engine.upkeep import run_merging
from fletching.errors import VersionNotFoundError

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("n", pa.int64())])
Rows = Counter[tuple[int, int]]
keys = st.lists(st.integers(0, 12), min_size=1, max_size=5)
EVERY_VERSION = bool(os.environ.get("FLETCHING_TEST_EXHAUSTIVE"))


class Changes(RuleBasedStateMachine):
    """One table, and what each of its versions showed."""

    table: Table

    def connect(self, folder: Path) -> Client:
        """Over a catalog in the folder itself."""
        return fletching.connect(folder, create=True)

    @initialize(keyed=st.booleans())
    def begin(self, keyed: bool) -> None:
        # Key runs are merged as soon as there are two: keys are looked for in both kinds.
        self.few_runs = mock.patch.object(run_merging, "MOST_RUNS", 1)
        self.few_runs.start()
        self.folder = tempfile.TemporaryDirectory(dir=memory_or_disk())
        self.client = self.connect(Path(self.folder.name) / "data")
        self.keyed = keyed
        key = ["id"] if keyed else []
        self.table = self.client.create_table("t", SCHEMA, primary_key=key)
        self.rows: Rows = Counter()
        self.shown: dict[int, Rows] = {0: Counter()}
        self.tagged: int | None = None
        self.oldest = 0
        self.number = 0

    def note(self, rows: Rows) -> None:
        self.rows = +rows
        self.shown[self.table.versions(limit=1)[0].version] = self.rows

    def data(self, ids: list[int]) -> pa.Table:
        self.number += 1
        rows = pa.table({"id": ids, "n": [self.number] * len(ids)}, SCHEMA)
        if "extra" in self.table.reload().schema.names:  # a restore brought it back
            rows = rows.append_column("extra", pa.nulls(len(ids), pa.string()))
        return rows

    def without(self, ids: set[int]) -> Rows:
        return Counter({row: count for row, count in self.rows.items() if row[0] not in ids})

    def readable(self, choice: int) -> int:
        result = [each.version for each in self.table.versions() if each.readable]
        assert set(result) >= {version for version in self.shown if version >= self.oldest}
        return result[choice % len(result)]

    @rule(ids=keys)
    def append(self, ids: list[int]) -> None:
        self.table.append(self.data(ids))
        if self.keyed:
            added: Rows = Counter((number, self.number) for number in set(ids))
            self.note(self.without(set(ids)) + added)
        else:
            self.note(self.rows + Counter((number, self.number) for number in ids))

    @rule(ids=keys)
    def upsert(self, ids: list[int]) -> None:
        there: Counter[int] = Counter()
        for (number, _), count in self.rows.items():
            there[number] += count
        report = self.table.upsert(self.data(ids), on=["id"])
        assert report.rows_inserted == sum(not there[number] for number in set(ids))
        assert report.rows_updated == sum(there[number] for number in set(ids))
        came: Rows = Counter({(number, self.number): max(1, there[number]) for number in set(ids)})
        self.note(self.without(set(ids)) + came)

    @rule(low=st.integers(0, 12), length=st.integers(0, 5))
    def delete(self, low: int, length: int) -> None:
        gone = set(range(low, low + length))
        report = self.table.delete(f"id >= {low} AND id < {low + length}")
        assert report.rows_deleted == (self.rows - self.without(gone)).total()
        self.note(self.without(gone))

    @rule(divisor=st.integers(1, 4))
    def update(self, divisor: int) -> None:
        self.table.update({"n": "n + 1000"}, where=f"id % {divisor} = 0")
        changed: Rows = Counter()
        for (number, n), count in self.rows.items():
            changed[number, n + 1000 * (number % divisor == 0)] += count
        self.note(changed)

    @rule(ids=keys)
    def keep_only(self, ids: list[int]) -> None:
        self.table.merge(
            self.data(list(dict.fromkeys(ids))),
            on=["id"],
            when_matched=None,
            when_not_matched=None,
            when_not_matched_by_source="delete",
        )
        self.note(self.rows - self.without(set(ids)))

    @rule()
    def truncate(self) -> None:
        self.table.truncate()
        self.note(Counter())

    @rule(choice=st.integers(0, 100))
    def restore(self, choice: int) -> None:
        version = self.readable(choice)
        self.table.restore(version)
        self.note(self.shown[version])

    @rule(choice=st.integers(0, 100))
    def tag(self, choice: int) -> None:
        before, self.tagged = self.tagged, self.readable(choice)
        self.table.create_tag("kept", self.tagged, replace=True)
        if before is not None and before < self.oldest and before != self.tagged:
            del self.shown[before]  # the tag was all that kept it

    @rule(purge=st.booleans())
    def compact(self, purge: bool) -> None:
        self.table.compact(purge=purge)
        self.note(self.rows)

    @rule()
    def expire(self) -> None:
        self.oldest = self.table.expire_versions(dt.timedelta())["oldest_version"]
        for version in list(self.shown):
            if version < self.oldest and version != self.tagged:
                del self.shown[version]
                try:
                    self.table.as_of(version)
                except VersionNotFoundError:
                    continue
                raise AssertionError(f"version {version} is gone and can be read")

    @rule()
    def change_columns(self) -> None:
        # A restore may have brought it back.
        if "extra" not in self.table.reload().schema.names:
            self.table.add_columns("extra STRING")
            self.note(self.rows)
        self.table.drop_columns(["extra"])
        self.note(self.rows)

    @invariant()
    def every_version_is_what_it_was(self) -> None:
        if not hasattr(self, "table"):
            return
        assert self.table.count_rows() == self.rows.total()
        known = sorted(self.shown)
        for version in known if EVERY_VERSION else {*known[-3:], *known[:2]}:
            assert content(self.table.as_of(version)) == self.shown[version]
        within = [version for version in known if version >= self.oldest]
        until = within[-1]
        for since in within if EVERY_VERSION else within[-4:][:1]:
            assert self.changed(since, until) == self.shown[until]

    def changed(self, since: int, until: int) -> Rows:
        rows = Counter(self.shown[since])
        for change in self.table.changes(since, until).to_table().to_pylist():
            came = change["_change_type"] in {"insert", "update_postimage"}
            rows[change["id"], change["n"]] += 1 if came else -1
            assert rows[change["id"], change["n"]] >= 0
        return +rows

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self.few_runs.stop()
            transport: Any = self.client.channel.transport
            assert [item for item in transport.engine.verify() if item.problems] == []
            self.client.close()
            self.folder.cleanup()


def content(table: Table) -> Rows:
    result = table.scan().to_table()
    return Counter(zip(result["id"].to_pylist(), result["n"].to_pylist(), strict=True))


TestChanges = Changes.TestCase
TestChanges.settings = settings(max_examples=6, stateful_step_count=12, deadline=None)


class ChangesOverPostgres(Changes):
    """The same with the catalog in PostgreSQL, each history in a database of its own."""

    databases: Databases

    def connect(self, folder: Path) -> Client:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FLETCHING_CATALOG", self.databases.create())
            return fletching.connect(folder, create=True)


@pytest.fixture
def _databases_of_the_model(postgresql: Databases) -> None:
    ChangesOverPostgres.databases = postgresql


TestChangesOverPostgres = pytest.mark.usefixtures("_databases_of_the_model")(
    ChangesOverPostgres.TestCase
)
TestChangesOverPostgres.settings = settings(TestChanges.settings, max_examples=2)
