"""What any connector must do in its engine, as tests: see `fletching.testing.contracts`.

Rows are right whatever is pushed, whatever happened to the table, and whichever of an engine's tasks die,
run twice or are given up; and nothing stays open.
"""

from __future__ import annotations

import abc
import contextlib
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from fletching.client import Client, Scan, Table
from fletching.errors import InvalidArgumentError, UsageError
from fletching.testing.engine_rows import (
    CONDITIONS,
    ENGINE_ROWS,
    TYPE_VALUES,
    rows_where,
    sorted_rows,
)

__all__ = ["Change", "ConnectorContract", "DiesOnce"]

Change = Callable[[pa.Table], pa.Table]
"""What a task does to its rows before they are written; pickles."""


class ConnectorContract(abc.ABC):
    """Tests over fixtures; an engine's ways are the hooks.

    ``client`` is one of a project without tables, and ``open_sessions`` gives what says the ids of the
    read and write sessions that are open in its data set. Two more fixtures are used where there are any:
    ``open_replies`` gives what says how many replies with rows the service is sending, ``killed_driver``
    what runs a program over ``table``, the table ``t``, in a process that dies at its commit: ``before``
    or ``after`` it. Tests of hooks that are left as they are, are skipped.
    """

    writes: ClassVar[bool] = True
    """Whether the connector writes."""
    repeats: ClassVar[bool] = False
    """Whether tasks are processes' that the engine runs again where one dies."""
    driver: ClassVar[str] = ""
    """A program that writes the rows of ``table`` to it once more, with the key ``job``."""

    @abc.abstractmethod
    def read(self, source: Table | Scan, columns: list[str] | None = None) -> pa.Table:
        """All rows, in any order, with the columns chosen by the engine itself."""

    @abc.abstractmethod
    def count(self, source: Table | Scan) -> int:
        """The number of rows as the engine counts them, without columns where it can."""

    def where(self, source: Table, column: str, operator: str, value: Any) -> list[int]:  # noqa: ARG002
        """The column ``id`` of the rows that meet one of `CONDITIONS`, in the engine's own words."""
        pytest.skip("no condition of this engine was given")

    def where_of_first(self, source: Table, rows: int, column: str, value: float) -> list[int]:  # noqa: ARG002
        """The column ``id`` of those of the first rows in which a column is at least a value."""
        pytest.skip("no condition on the first rows was given")

    def later(self, source: Table) -> Callable[[], pa.Table]:  # noqa: ARG002
        """Hands a table to the engine, and gives what reads it."""
        pytest.skip("nothing says how this engine reads later what it is given now")

    def stop_early(self, source: Table) -> None:  # noqa: ARG002
        """Begins to read, and gives it up after the first rows."""
        pytest.skip("nothing says how this engine stops")

    def let_go(self, source: Table) -> None:  # noqa: B027  # most engines need nothing
        """Does what the engine needs to let go of what it was left with; called while that is waited for."""

    def write(self, data: pa.Table, table: Table, *, overwrite: bool) -> None:  # noqa: ARG002
        """Writes rows in more than one task where the engine has tasks."""
        raise UsageError("this connector does not write")

    def write_keyed(self, data: pa.Table, table: Table, key: str) -> None:  # noqa: ARG002
        """Appends rows under an idempotency key."""
        pytest.skip("no write under a key was given")

    def write_changed(self, data: pa.Table, table: Table, change: Change) -> None:  # noqa: ARG002
        """Appends rows of which each task, or the engine, changes its own before they are written."""
        pytest.skip("no write with a change was given")

    def write_doubled(self, data: pa.Table, table: Table) -> None:  # noqa: ARG002
        """Appends rows by tasks that each run twice, of which the engine keeps one."""
        pytest.skip("no write by doubled tasks was given")

    def made(self, client: Client, name: str = "t") -> Table:
        """A table with `ENGINE_ROWS`, in two segments."""
        table = client.create_table(name, ENGINE_ROWS.schema)
        table.append(ENGINE_ROWS.slice(0, 4))
        table.append(ENGINE_ROWS.slice(4))
        return table

    def test_every_row_and_value(self, client: Client) -> None:
        """As a scan gives them."""
        result = self.read(self.made(client))
        assert result.column_names == ENGINE_ROWS.column_names
        assert sorted_rows(result) == sorted_rows(ENGINE_ROWS)

    def test_projection(self, client: Client) -> None:
        """In the wanted order."""
        result = self.read(self.made(client), ["text", "id"])
        assert result.column_names == ["text", "id"]
        assert sorted_rows(result) == sorted_rows(ENGINE_ROWS.select(["text", "id"]))

    def test_no_columns(self, client: Client) -> None:
        """Are rows nevertheless, or refused by an engine that has no rows without columns."""
        try:
            result = self.read(self.made(client).scan(columns=[]))
        except UsageError as error:
            assert "column" in str(error)  # noqa: PT017  # either outcome is right
            return
        assert (result.num_rows, result.num_columns) == (10, 0)

    def test_no_session_stays_open(
        self, client: Client, open_sessions: Callable[[], list[str]]
    ) -> None:
        """After reading, counting, stopping early, writing, and writing what does not fit."""
        table = self.made(client)
        before = open_sessions()
        self.read(table)
        self.read(table, ["id"])
        self.read(table.scan(filter="id > 3", columns=["id"]))
        self.read(table.scan(limit=2, columns=["id"]))
        self.count(table)
        gc.collect()
        assert open_sessions() == before
        if not self.writes:
            return
        self.write(ENGINE_ROWS, table, overwrite=False)
        self.write(ENGINE_ROWS.slice(0, 0), table, overwrite=True)
        with pytest.raises(Exception):  # noqa: B017, PT011  # each engine wraps what its tasks raise
            self.write(pa.table({"id": ["no number"] * 4}), table, overwrite=False)
        gc.collect()
        assert open_sessions() == before

    def test_counting(self, client: Client) -> None:
        """Of a table, of the rows of a filter, and of none."""
        table = self.made(client)
        assert self.count(table) == 10
        assert self.count(table.scan(filter="id >= 7")) == 3
        assert self.count(client.create_table("empty", ENGINE_ROWS.schema)) == 0

    def test_a_scan_says_which_rows(self, client: Client) -> None:
        """Its columns, filter and limit hold."""
        table = self.made(client)
        result = self.read(table.scan(columns=["id"], filter="id > 2 AND flag"))
        assert result.column_names == ["id"]
        assert sorted(result["id"].to_pylist()) == [3, 6, 9]
        assert self.read(table.scan(columns=["id"], limit=3)).num_rows == 3

    def test_an_empty_table(self, client: Client) -> None:
        """Has columns and no rows."""
        result = self.read(client.create_table("empty", ENGINE_ROWS.schema))
        assert result.num_rows == 0
        assert result.column_names == ENGINE_ROWS.column_names

    def test_conditions_change_no_answer(self, client: Client) -> None:
        """Pushed or not."""
        table = self.made(client)
        for condition in CONDITIONS:
            expected = rows_where(ENGINE_ROWS, *condition)["id"].to_pylist()
            assert sorted(self.where(table, *condition)) == expected, condition

    @pytest.mark.parametrize("column", ["id", "number"])
    def test_a_condition_on_the_first_rows_leaves_the_others_out(
        self, client: Client, column: str
    ) -> None:
        """Conditions and numbers of rows are both pushed, and mean another thing the other way round."""
        table = self.made(client)
        assert (
            sorted(self.where_of_first(table, 6, column, 2))
            == {
                "id": [2, 3, 4, 5],
                "number": [3],
            }[column]
        )
        assert self.where_of_first(table, 2, column, 2) == []
        assert self.where_of_first(table, 0, column, 0) == []

    def test_tables_that_have_changed(self, client: Client) -> None:
        """Without the rows that were deleted, with the columns and values as they are now."""
        table = self.made(client)
        table.delete("id IN (1, 5, 9)")
        table.update({"text": "upper(text)"}, where="id > 6")
        table.add_columns(pa.schema([("later", pa.int64())]))
        table.rename_column("amount", "price")
        table.drop_columns(["point"])
        table = client.table("t")
        result = self.read(table)
        assert sorted(result.column_names) == sorted(table.schema.names)
        assert sorted_rows(result) == sorted_rows(table.to_table())
        assert result.num_rows == 7
        assert self.count(table) == 7

    def test_columns_that_come_later_change_no_answer(self, client: Client) -> None:
        """Of what the engine was given before."""
        table = self.made(client)
        read = self.later(table)
        table.add_columns(pa.schema([("later", pa.int64())]))
        result = read().select(ENGINE_ROWS.column_names)
        assert sorted_rows(result) == sorted_rows(ENGINE_ROWS)

    def test_values_are_never_taken_for_another_type(self, client: Client) -> None:
        """Where a table was made anew with other columns: it is read as it is, or refused."""
        read = self.later(self.made(client))
        client.drop_table("t")
        kinds = {"id": pa.string(), "text": pa.int64(), "number": pa.string()}
        schema = pa.schema(
            [field.with_type(kinds.get(field.name, field.type)) for field in ENGINE_ROWS.schema]
        )
        changed = {"id": [f"row {n}" for n in range(10)], "text": range(10), "number": ["x"] * 10}
        columns = {name: ENGINE_ROWS[name] for name in schema.names} | changed
        rows = pa.table(columns, schema=schema)
        table = client.create_table("t", schema)
        table.append(rows.slice(0, 4))
        table.append(rows.slice(4))
        try:
            result = read()
        except Exception:  # noqa: BLE001  # each engine wraps what its tasks raise
            return
        assert sorted_rows(result) == sorted_rows(rows)

    def test_a_table_with_a_primary_key(self, client: Client) -> None:
        """Has each key once, with its newest row."""
        schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("text", pa.string())])
        table = client.create_table("keyed", schema, primary_key=["id"])
        table.upsert(pa.table({"id": range(6), "text": ["old"] * 6}, schema=schema))
        table.upsert(pa.table({"id": [1, 7], "text": ["new", "new"]}, schema=schema))
        table.delete_keys({"id": [2]})
        expected = {0: "old", 1: "new", 3: "old", 4: "old", 5: "old", 7: "new"}
        result = self.read(table)
        assert (
            dict(zip(result["id"].to_pylist(), result["text"].to_pylist(), strict=True)) == expected
        )
        assert result.num_rows == self.count(table) == 6

    def test_an_old_version(self, client: Client) -> None:
        """Is read as it was."""
        table = self.made(client)
        version = table.versions(limit=1)[0].version
        table.delete("id > 2")
        assert self.read(table.scan(version=version, columns=["id"])).num_rows == 10
        assert self.read(table.scan(columns=["id"])).num_rows == 3

    def test_stopping_early_leaves_nothing(
        self,
        client: Client,
        open_sessions: Callable[[], list[str]],
        request: pytest.FixtureRequest,
    ) -> None:
        """No session, and no reply that nobody takes."""
        open_replies = _fixture(request, "open_replies")
        schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
        table = client.create_table("long", schema)
        for start in range(0, 80_000, 20_000):
            ids = range(start, start + 20_000)
            table.append(pa.table({"id": ids, "text": [f"{n:0100}" for n in ids]}, schema=schema))
        before = open_sessions()
        self.stop_early(table)
        gc.collect()
        ended = time.monotonic() + 120
        while open_sessions() != before or open_replies():
            assert time.monotonic() < ended, (open_sessions(), open_replies())
            self.let_go(table)
            time.sleep(0.02)
        assert self.count(table) == 80_000

    def test_partition_columns(self, client: Client) -> None:
        """Stand beside the data."""
        table = client.create_table(
            "parts", pa.schema([("id", pa.int64()), ("pt", pa.string())]), partition_by=["pt"]
        )
        table.append(pa.table({"id": [1, 2]}), partition="pt=a")
        table.append(pa.table({"id": [3]}), partition="pt=b")
        result = self.read(table)
        assert sorted(zip(result["id"].to_pylist(), result["pt"].to_pylist(), strict=True)) == [
            (1, "a"),
            (2, "a"),
            (3, "b"),
        ]
        assert self.read(table.scan(partitions=["pt=b"])).num_rows == 1

    @pytest.mark.parametrize("name", TYPE_VALUES)
    def test_types(self, client: Client, name: str) -> None:
        """A value arrives as it is, or the column is refused by name."""
        kind, values = TYPE_VALUES[name]
        data = pa.table({"id": range(len(values)), "odd": pa.array(values, kind)})
        try:
            table = client.create_table("types", data.schema)
        except InvalidArgumentError as error:
            pytest.skip(f"no table has such a column: {error}")
        table.append(data)
        try:
            result = self.read(table)
        except UsageError as error:
            assert "odd" in str(error)  # noqa: PT017  # either outcome is right
            return
        if pa.types.is_date64(kind):
            # Days in milliseconds are moments to some engines, and days to others.
            result, data = (
                each.set_column(1, "odd", each["odd"].cast(pa.date32())) for each in (result, data)
            )
        assert sorted_rows(result) == sorted_rows(data)

    def test_writing(self, client: Client) -> None:
        """Adds rows in one commit, or replaces them."""
        if not self.writes:
            pytest.skip("reads only")
        table = client.create_table("written", ENGINE_ROWS.schema)
        self.write(ENGINE_ROWS, table, overwrite=False)
        assert sorted_rows(table.to_table()) == sorted_rows(ENGINE_ROWS)
        self.write(ENGINE_ROWS.slice(0, 3), table, overwrite=False)
        assert table.count_rows() == 13
        self.write(ENGINE_ROWS.slice(0, 2), table, overwrite=True)
        assert sorted_rows(table.to_table()) == sorted_rows(ENGINE_ROWS.slice(0, 2))

    def test_writing_nothing(self, client: Client) -> None:
        """Adds nothing, and replaces everything."""
        if not self.writes:
            pytest.skip("reads only")
        table = self.made(client)
        self.write(ENGINE_ROWS.slice(0, 0), table, overwrite=False)
        assert table.count_rows() == 10
        self.write(ENGINE_ROWS.slice(0, 0), table, overwrite=True)
        assert table.count_rows() == 0

    def test_rows_that_do_not_fit_change_nothing(self, client: Client) -> None:
        """The whole write fails."""
        if not self.writes:
            pytest.skip("reads only")
        table = self.made(client)
        wrong = pa.table({"id": ["no number"] * 4, "text": ["x"] * 4})
        with pytest.raises(Exception):  # noqa: B017, PT011  # each engine wraps what its tasks raise
            self.write(wrong, table, overwrite=True)
        assert table.count_rows() == 10

    def test_a_write_under_the_same_key_changes_nothing(self, client: Client) -> None:
        """Whatever its rows."""
        if not self.writes:
            pytest.skip("reads only")
        table = self.made(client)
        self.write_keyed(ENGINE_ROWS, table, "once")
        version = table.versions(limit=1)[0].version
        self.write_keyed(ENGINE_ROWS.slice(0, 5), table, "once")
        assert table.count_rows() == 20
        assert table.versions(limit=1)[0].version == version

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_a_driver_that_is_killed_can_be_run_again(
        self, client: Client, request: pytest.FixtureRequest, moment: str
    ) -> None:
        """Under the same key: its rows are there once."""
        if not self.driver:
            pytest.skip("no program that writes was given")
        if not hasattr(client.channel.transport, "endpoint"):
            pytest.skip("a driver of its own reaches the service over HTTP")
        killed_driver = _fixture(request, "killed_driver")
        table = self.made(client)
        killed_driver(moment, self.driver)
        assert table.count_rows() == (10 if moment == "before" else 20)
        self.write_keyed(ENGINE_ROWS, table, "job")
        assert sorted_rows(table.to_table()) == sorted_rows(pa.concat_tables([ENGINE_ROWS] * 2))

    def test_a_failing_task_changes_nothing(
        self, client: Client, open_sessions: Callable[[], list[str]]
    ) -> None:
        """However far the others were; and leaves no session."""
        if not self.writes:
            pytest.skip("reads only")
        table = self.made(client)
        before = open_sessions()
        with pytest.raises(Exception, match="this task fails"):
            self.write_changed(ENGINE_ROWS, table, fails)
        assert sorted_rows(table.to_table()) == sorted_rows(ENGINE_ROWS)
        gc.collect()
        assert [each for each in open_sessions() if each.startswith("write")] == [
            each for each in before if each.startswith("write")
        ]

    def test_killed_and_repeated_tasks_write_once(
        self, client: Client, open_sessions: Callable[[], list[str]], tmp_path: Path
    ) -> None:
        """A process that dies in the midst of its rows is made up for."""
        if not self.repeats:
            pytest.skip("no task of this engine is another process's")
        table = self.made(client)
        path = tmp_path / "died"
        self.write_changed(ENGINE_ROWS, table, DiesOnce(str(path)))
        assert path.exists()
        assert sorted_rows(table.to_table()) == sorted_rows(pa.concat_tables([ENGINE_ROWS] * 2))
        assert [name for name in open_sessions() if name.startswith("write")] == []

    def test_tasks_that_run_twice_write_once(
        self, client: Client, open_sessions: Callable[[], list[str]]
    ) -> None:
        """As where an engine begins a slow one again beside the first."""
        if not self.repeats:
            pytest.skip("this engine does not begin a task twice")
        table = self.made(client)
        self.write_doubled(ENGINE_ROWS, table)
        assert sorted_rows(table.to_table()) == sorted_rows(pa.concat_tables([ENGINE_ROWS] * 2))
        assert [name for name in open_sessions() if name.startswith("write")] == []


def fails(rows: pa.Table) -> pa.Table:
    """A task's change that fails at one row."""
    if 7 in rows["id"].to_pylist():
        raise RuntimeError("this task fails")
    return rows


class DiesOnce:
    """A task's change that ends its process, the first time that there are rows."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The rows, from the second time on."""
        with contextlib.suppress(FileExistsError):
            if rows.num_rows:
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL))
                os._exit(9)  # that is its name
        return rows


def _fixture(request: pytest.FixtureRequest, name: str) -> Any:
    try:
        return request.getfixturevalue(name)
    except pytest.FixtureLookupError:
        pytest.skip(f"there is no fixture {name}")
