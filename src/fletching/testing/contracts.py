"""What any object store and any connector must do, as tests: subclass, and pytest runs them.

::

    class TestMyStore(ObjectStoreContract):
        @pytest.fixture
        def store(self) -> Iterator[ObjectStore]: ...


    class TestMyEngine(ConnectorContract):
        def read(self, source: Table | Scan) -> pa.Table: ...
"""

from __future__ import annotations

import abc
import datetime as dt
import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import ClassVar

import pyarrow as pa
import pytest

from fletching.client import Client, Scan, Table
from fletching.errors import (
    InvalidArgumentError,
    ObjectExistsError,
    ObjectNotFoundError,
    UsageError,
)
from fletching.objects.store import ObjectStore

__all__ = ["ConnectorContract", "ObjectStoreContract", "put"]


def put(store: ObjectStore, key: str, data: bytes) -> None:
    """Stores an object in one piece."""
    sink = store.create(key)
    sink.write(data)
    sink.commit()


class ObjectStoreContract:
    """Tests over a fixture ``store``, empty at the start of each."""

    def test_bytes_come_back(self, store: ObjectStore) -> None:
        """Whatever the pieces, the object is their concatenation."""
        sink = store.create("tables/t/a.arrow")
        sink.write(b"abc")
        sink.write_many([b"", memoryview(b"defg")[1:], bytearray(b"h")])
        sink.write_many([bytes([n % 256]) for n in range(3000)])
        expected = b"abcefgh" + bytes(n % 256 for n in range(3000))
        assert sink.length == len(expected)
        sink.commit()
        stored = store.open("tables/t/a.arrow")
        assert stored.length == len(expected)
        assert bytes(stored.view(0, stored.length)) == expected
        assert bytes(stored.read(2, 9)) == expected[2:9]
        assert bytes(stored.view(5, 5)) == b""
        stored.load(0, stored.length)
        assert isinstance(stored.resident(0, stored.length), bool)
        stored.close()
        stored.close()

    def test_an_empty_object(self, store: ObjectStore) -> None:
        """Nothing is something."""
        put(store, "e", b"")
        stored = store.open("e")
        assert stored.length == 0
        assert bytes(stored.view(0, 0)) == b""
        stored.close()

    def test_nothing_is_visible_before_commit(self, store: ObjectStore) -> None:
        """An object that is being written is not there."""
        sink = store.create("a/b")
        sink.write(b"x")
        with pytest.raises(ObjectNotFoundError):
            store.open("a/b")
        assert list(store.list()) == []
        sink.commit()
        assert [info.key for info in store.list()] == ["a/b"]

    def test_abort_leaves_nothing(self, store: ObjectStore) -> None:
        """Also twice, and not after a commit."""
        sink = store.create("a")
        sink.write(b"x")
        sink.abort()
        sink.abort()
        assert list(store.list()) == []
        with pytest.raises(UsageError):
            sink.write(b"y")
        with pytest.raises(UsageError):
            sink.commit()
        put(store, "a", b"z")
        committed = store.create("b")
        committed.commit()
        committed.abort()
        assert {info.key for info in store.list()} == {"a", "b"}

    def test_keys_are_taken_once(self, store: ObjectStore) -> None:
        """The second commit under a key fails and changes nothing."""
        first, second = store.create("k"), store.create("k")
        first.write(b"1")
        second.write(b"2")
        first.commit()
        with pytest.raises(ObjectExistsError) as caught:
            second.commit()
        assert caught.value.key == "k"
        assert bytes(store.open("k").read(0, 1)) == b"1"

    @pytest.mark.parametrize("length", [1, 9 << 20])
    def test_of_several_who_make_one_key_one_succeeds(
        self, store: ObjectStore, length: int
    ) -> None:
        """Whatever the size, and what is there is all of the one's own."""
        sinks = [store.create("k") for _ in range(4)]
        for number, sink in enumerate(sinks):
            sink.write(bytes([number]) * length)
        ready = threading.Barrier(len(sinks))

        def commit(number: int) -> int | None:
            ready.wait()
            try:
                sinks[number].commit()
            except ObjectExistsError:
                return None
            return number

        with ThreadPoolExecutor(len(sinks)) as threads:
            made = [
                number for number in threads.map(commit, range(len(sinks))) if number is not None
            ]
        assert len(made) == 1
        stored = store.open("k")
        assert stored.length == length
        assert bytes(stored.read(0, length)) == bytes([made[0]]) * length
        assert [info.key for info in store.list()] == ["k"]
        stored.close()

    def test_delete_is_idempotent(self, store: ObjectStore) -> None:
        """And views outlive it."""
        put(store, "a/b", b"abc")
        stored = store.open("a/b")
        view = stored.view(0, 3)
        store.delete("a/b")
        store.delete("a/b")
        store.delete("never/was")
        assert bytes(view) == b"abc"
        stored.close()
        assert bytes(view) == b"abc"
        with pytest.raises(ObjectNotFoundError) as caught:
            store.open("a/b")
        assert caught.value.key == "a/b"
        put(store, "a/b", b"new")

    def test_list_by_whole_names(self, store: ObjectStore) -> None:
        """A prefix is a folder, not the beginning of a name."""
        for key in ("tables/t1/a", "tables/t1/b/c", "tables/t10/a", "packs/p"):
            put(store, key, key.encode())
        assert {info.key for info in store.list()} == {
            "tables/t1/a", "tables/t1/b/c", "tables/t10/a", "packs/p",
        }  # fmt: skip
        assert {info.key for info in store.list("tables/t1")} == {"tables/t1/a", "tables/t1/b/c"}
        assert {info.key for info in store.list("tables/t1/")} == {"tables/t1/a", "tables/t1/b/c"}
        assert list(store.list("none")) == []
        info = next(iter(store.list("packs")))
        assert info.length == 7
        assert info.modified > 1_600_000_000

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            ".hidden",
            "a/.b",
            "a b",
            "a\0b",
            "é",
            "x" * 901,
            "a\n",
        ],
    )
    def test_malformed_keys(self, store: ObjectStore, key: str) -> None:
        """Nothing outside the store can be named."""
        for call in (store.create, store.open, store.delete):
            with pytest.raises(UsageError):
                call(key)

    def test_ranges_outside(self, store: ObjectStore) -> None:
        """A range must lie in the object."""
        put(store, "a", b"abc")
        stored = store.open("a")
        for start, end in ((-1, 2), (2, 1), (0, 4), (4, 4)):
            for read in (stored.view, stored.read):
                with pytest.raises(UsageError):
                    read(start, end)
        stored.close()
        with pytest.raises(UsageError):
            stored.read(0, 1)

    def test_close_is_idempotent(self, store: ObjectStore) -> None:
        """And says nothing about objects that are open."""
        put(store, "a", b"abc")
        stored = store.open("a")
        store.close()
        store.close()
        assert bytes(stored.view(0, 3)) == b"abc"
        stored.close()


ENGINE_ROWS = pa.table(
    {
        "id": pa.array(range(10), pa.int64()),
        "text": pa.array([None, "", 'a"b', "é", "\\n", *"fghij"], pa.string()),
        "number": pa.array([0.5, None, -0.0, 1e300, *range(6)], pa.float64()),
        "flag": pa.array([True, None, False] * 3 + [True], pa.bool_()),
        "day": pa.array([dt.date(2026, 1, n + 1) for n in range(9)] + [None], pa.date32()),
        "amount": pa.array([Decimal(n) / 4 for n in range(9)] + [None], pa.decimal128(12, 2)),
        "tags": pa.array([["a", None], [], None] * 3 + [["z"]], pa.list_(pa.string())),
        "point": pa.array(
            [{"x": n, "y": None if n % 2 else f"y{n}"} for n in range(9)] + [None],
            pa.struct([("x", pa.int32()), ("y", pa.string())]),
        ),
    }
)
"""Rows that every engine has types for: numbers, text, days, decimals, a list and a struct."""

TYPE_VALUES: dict[str, tuple[pa.DataType, list[object]]] = {
    "tinyint": (pa.int8(), [1, None, -128]),
    "smallint": (pa.int16(), [1, None]),
    "int": (pa.int32(), [1, None]),
    "unsigned": (pa.uint32(), [1, None]),
    "float": (pa.float32(), [0.5, None]),
    "binary": (pa.binary(), [b"\x00\xff", b"", None]),
    "large text": (pa.large_string(), ["a", None]),
    "text view": (pa.string_view(), ["a" * 20, None]),
    "timestamp": (pa.timestamp("us"), [dt.datetime(2026, 1, 2, 3, 4, 5, 6), None]),  # noqa: DTZ001
    "instant": (pa.timestamp("us", "UTC"), [dt.datetime(2026, 1, 2, tzinfo=dt.UTC), None]),
    "time": (pa.time64("us"), [dt.time(1, 2, 3), None]),
    "map": (pa.map_(pa.string(), pa.int32()), [[("a", 1)], [], None]),
    "fixed list": (pa.list_(pa.float32(), 2), [[1.0, 2.0], None]),
    "list of structs": (pa.list_(pa.struct([("x", pa.int64())])), [[{"x": 1}, None], None]),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), ["a", None, "b", "a"]),
    "null": (pa.null(), [None, None]),
    "boolean": (pa.bool_(), [True, None, False]),
    "bigint": (pa.int64(), [1, None, -(2**63)]),
    "unsigned tiny": (pa.uint8(), [255, None]),
    "unsigned small": (pa.uint16(), [65535, None]),
    "unsigned big": (pa.uint64(), [2**64 - 1, None, 0]),
    "half": (pa.float16(), [0.5, None]),
    "double": (pa.float64(), [0.5, None, 1e300]),
    "text": (pa.string(), ["a", None, ""]),
    "large binary": (pa.large_binary(), [b"a", None]),
    "binary view": (pa.binary_view(), [b"a" * 20, None]),
    "fixed binary": (pa.binary(3), [b"abc", None]),
    "date": (pa.date32(), [dt.date(2026, 1, 2), None]),
    "date64": (pa.date64(), [dt.date(2026, 1, 2), None]),
    "seconds": (pa.timestamp("s"), [dt.datetime(2026, 1, 2), None]),  # noqa: DTZ001
    "milliseconds": (pa.timestamp("ms", "UTC"), [dt.datetime(2026, 1, 2, tzinfo=dt.UTC), None]),
    "nanoseconds": (pa.timestamp("ns"), [dt.datetime(2026, 1, 2, 3), None]),  # noqa: DTZ001
    "time32": (pa.time32("s"), [dt.time(1, 2, 3), None]),
    "duration": (pa.duration("us"), [dt.timedelta(seconds=3, microseconds=5), None]),
    "interval": (pa.month_day_nano_interval(), [pa.MonthDayNano([1, 2, 3]), None]),
    "decimal": (pa.decimal128(38, 18), [Decimal("1.5"), None]),
    "wide decimal": (pa.decimal256(50, 2), [Decimal("1.50"), None]),
    "list": (pa.list_(pa.int32()), [[1, None], [], None]),
    "large list": (pa.large_list(pa.int64()), [[1, None], [], None]),
    "list of lists": (pa.list_(pa.list_(pa.string())), [[["a"], None, []], None]),
    "struct": (pa.struct([("x", pa.int8()), ("y", pa.string())]), [{"x": 1, "y": None}, None]),
    "struct of structs": (
        pa.struct([("s", pa.struct([("x", pa.int64())]))]),
        [{"s": {"x": 1}}, {"s": None}, None],
    ),
}
"""Types that an engine reads as they are, or refuses by the column's name."""


class ConnectorContract(abc.ABC):
    """Tests over two fixtures; an engine's ways are the hooks.

    ``client`` is one of a project without tables, and ``open_sessions`` gives what says the ids of the
    read and write sessions that are open in its data set.
    """

    writes: ClassVar[bool] = True
    """Whether the connector writes."""

    @abc.abstractmethod
    def read(self, source: Table | Scan, columns: list[str] | None = None) -> pa.Table:
        """All rows, in any order, with the columns chosen by the engine itself."""

    @abc.abstractmethod
    def count(self, source: Table | Scan) -> int:
        """The number of rows as the engine counts them, without columns where it can."""

    def write(self, data: pa.Table, table: Table, *, overwrite: bool) -> None:  # noqa: ARG002
        """Writes rows in more than one task where the engine has tasks."""
        raise UsageError("this connector does not write")

    def made(self, client: Client, name: str = "t") -> Table:
        """A table with `ENGINE_ROWS`, in two segments."""
        table = client.create_table(name, ENGINE_ROWS.schema)
        table.append(ENGINE_ROWS.slice(0, 4))
        table.append(ENGINE_ROWS.slice(4))
        return table

    def test_every_row_and_value(self, client: Client) -> None:
        """As a scan gives them."""
        found = self.read(self.made(client))
        assert found.column_names == ENGINE_ROWS.column_names
        assert sorted_rows(found) == sorted_rows(ENGINE_ROWS)

    def test_projection(self, client: Client) -> None:
        """In the wanted order."""
        found = self.read(self.made(client), ["text", "id"])
        assert found.column_names == ["text", "id"]
        assert sorted_rows(found) == sorted_rows(ENGINE_ROWS.select(["text", "id"]))

    def test_no_columns(self, client: Client) -> None:
        """Are rows nevertheless, or refused by an engine that has no rows without columns."""
        try:
            found = self.read(self.made(client).scan(columns=[]))
        except UsageError as error:
            assert "column" in str(error)  # noqa: PT017  # either outcome is right
            return
        assert (found.num_rows, found.num_columns) == (10, 0)

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
        found = self.read(table.scan(columns=["id"], filter="id > 2 AND flag"))
        assert found.column_names == ["id"]
        assert sorted(found["id"].to_pylist()) == [3, 6, 9]
        assert self.read(table.scan(columns=["id"], limit=3)).num_rows == 3

    def test_an_empty_table(self, client: Client) -> None:
        """Has columns and no rows."""
        found = self.read(client.create_table("empty", ENGINE_ROWS.schema))
        assert found.num_rows == 0
        assert found.column_names == ENGINE_ROWS.column_names

    def test_partition_columns(self, client: Client) -> None:
        """Stand beside the data."""
        table = client.create_table(
            "parts", pa.schema([("id", pa.int64()), ("pt", pa.string())]), partition_by=["pt"]
        )
        table.append(pa.table({"id": [1, 2]}), partition="pt=a")
        table.append(pa.table({"id": [3]}), partition="pt=b")
        found = self.read(table)
        assert sorted(zip(found["id"].to_pylist(), found["pt"].to_pylist(), strict=True)) == [
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
            found = self.read(table)
        except UsageError as error:
            assert "odd" in str(error)  # noqa: PT017  # either outcome is right
            return
        if pa.types.is_date64(kind):
            # Days in milliseconds are moments to some engines, and days to others.
            found, data = (
                each.set_column(1, "odd", each["odd"].cast(pa.date32())) for each in (found, data)
            )
        assert sorted_rows(found) == sorted_rows(data)

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


def sorted_rows(table: pa.Table) -> list[str]:
    """Rows in an order of their own, for engines that keep none; moments without their zone's name."""
    rows = (dict(sorted(row.items())) for row in table.to_pylist())
    return sorted(repr({name: _plain(value) for name, value in row.items()}) for row in rows)


def _plain(value: object) -> object:
    """The value without what engines choose for it: a moment's class and zone, a whole number's type."""
    if isinstance(value, dt.datetime):
        # pyarrow gives pandas' own class for nanoseconds, if pandas is there.
        if getattr(value, "nanosecond", 0) == 0:
            value = dt.datetime.combine(value.date(), value.timetz())
        return value if value.tzinfo is None else value.astimezone(dt.UTC)
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    if isinstance(value, pa.MonthDayNano) and not value.months and not value.days:
        # To some engines a duration is an interval.
        return dt.timedelta(microseconds=value.nanoseconds / 1000)
    return value
