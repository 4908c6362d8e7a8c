"""Tables in DuckDB."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from fletching.client import Client, Scan, Table
from fletching.errors import UsageError
from fletching.testing.connector_contract import Change
from fletching.testing.contracts import ENGINE_ROWS, ConnectorContract, sorted_rows
from fletching.testing.engine_rows import sql_of

duckdb = pytest.importorskip("duckdb")

from fletching.connectors.duckdb import ScanDataset, attach  # noqa: E402  # after the skip

pytestmark = pytest.mark.engines


class TestContract(ConnectorContract):
    def read(self, source: Table | Scan, columns: list[str] | None = None) -> pa.Table:
        connection = duckdb.connect()
        attach(connection, source, "here")
        wanted = "*" if columns is None else ", ".join(f'"{name}"' for name in columns)
        return connection.sql(f"SELECT {wanted} FROM here").arrow().read_all()

    def count(self, source: Table | Scan) -> int:
        connection = duckdb.connect()
        attach(connection, source, "here")
        return int(connection.sql("SELECT count(*) FROM here").fetchall()[0][0])

    def write(self, data: pa.Table, table: Table, *, overwrite: bool) -> None:
        connection = duckdb.connect()  # older releases close it with its last reference
        relation = connection.from_arrow(data)
        (table.overwrite if overwrite else table.append)(relation)

    def write_keyed(self, data: pa.Table, table: Table, key: str) -> None:
        connection = duckdb.connect()
        table.append(connection.from_arrow(data), idempotency_key=key)

    def write_changed(self, data: pa.Table, table: Table, change: Change) -> None:
        batches = (
            batch
            for start in range(0, len(data), 4)
            for batch in change(data.slice(start, 4)).to_batches()
        )
        connection = duckdb.connect()
        reader = pa.RecordBatchReader.from_batches(data.schema, batches)
        table.append(connection.from_arrow(reader))

    driver = (
        "import duckdb\n"
        "from fletching.connectors.duckdb import attach\n"
        "connection = duckdb.connect()\n"
        "attach(connection, table)\n"
        "table.append(connection.sql('SELECT * FROM t'), idempotency_key='job')\n"
    )

    def where(self, source: Table, column: str, operator: str, value: Any) -> list[int]:
        # Text of DuckDB has no escapes.
        condition = sql_of(column, operator, value).replace("\\\\", "\\")
        connection = duckdb.connect()
        attach(connection, source, "here")
        return [n for (n,) in connection.sql(f"SELECT id FROM here WHERE {condition}").fetchall()]

    def where_of_first(self, source: Table, rows: int, column: str, value: float) -> list[int]:
        connection = duckdb.connect()
        attach(connection, source, "here")
        few = f"(SELECT * FROM here LIMIT {rows})"
        result = connection.sql(f"SELECT id FROM {few} WHERE {column} >= {value}")
        return [n for (n,) in result.fetchall()]

    def later(self, source: Table) -> Callable[[], pa.Table]:
        connection = duckdb.connect()
        attach(connection, source, "here")
        return lambda: connection.sql("FROM here").to_arrow_table()

    def stop_early(self, source: Table) -> None:
        connection = duckdb.connect()
        attach(connection, source, "here")
        cursor = connection.execute("SELECT * FROM here")
        assert len(cursor.fetchmany(10)) == 10
        connection.close()


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[Scan]:
    """The scans that were read."""
    read: list[Scan] = []
    original = Scan.to_batches

    def spy(self: Scan) -> Any:
        read.append(self)
        return original(self)

    monkeypatch.setattr(Scan, "to_batches", spy)
    return read


QUERIES = {
    "id > 5": "`id` > 5",
    "id > 5 AND text <> 'h'": "`id` > 5",
    "text IN ('f', 'é')": "`text` IN",
    "text = '\\n'": r"`text` = '\\n'",
    "day >= DATE '2026-01-05'": "`day` >= DATE '2026-01-05'",
    "amount = 0.25": "`amount` = 0.25BD",
    "text IS NULL": "`text` IS NULL",
    "id < 3 OR text = 'j'": "OR",
    "point.x = 3": "`point`.`x` = 3",
    "point.x > 3 AND point.x < 8": "`point`.`x` > 3",
    "text LIKE 'f%'": None,
    "number > 2": None,
}


@pytest.mark.parametrize("condition", QUERIES)
def test_a_pushed_predicate_changes_no_answer(
    client: Client, scans: list[Scan], condition: str
) -> None:
    table = TestContract().made(client)
    connection = duckdb.connect()
    attach(connection, table)
    connection.register("plain", ENGINE_ROWS)
    query = f"SELECT id, text FROM {{}} WHERE {condition} ORDER BY id"
    result = connection.sql(query.format("t")).fetchall()
    assert result == connection.sql(query.format("plain")).fetchall()
    assert result
    expected = QUERIES[condition]
    if (
        expected is not None and int(duckdb.__version__.partition(".")[0]) >= 2
    ):  # older ones push less
        assert scans[-1].filter is not None
        assert expected in scans[-1].filter


def test_only_the_columns_of_the_query_are_read(client: Client, scans: list[Scan]) -> None:
    connection = duckdb.connect()
    attach(connection, TestContract().made(client))
    connection.sql("SELECT sum(id) FROM t WHERE flag").fetchall()
    assert set(scans[-1].columns or ()) <= {"id", "flag"}


def test_a_relation_can_be_read_again_and_sees_what_was_committed(client: Client) -> None:
    table = TestContract().made(client)
    connection = duckdb.connect()
    attach(connection, table, "mine")
    assert connection.sql("SELECT count(*) FROM mine a JOIN mine b USING (id)").fetchall() == [
        (10,)
    ]
    table.append(ENGINE_ROWS.slice(0, 1))
    assert connection.sql("SELECT count(*) FROM mine").fetchall() == [(11,)]


def test_the_tables_of_a_client(client: Client, tmp_path: Path) -> None:
    TestContract().made(client, "one")
    TestContract().made(client, "two")
    database = str(tmp_path / "file.db")
    connection = duckdb.connect(database)
    assert attach(connection, client) == ["one", "two"]
    assert attach(connection, client, "shelf") == ["shelf.one", "shelf.two"]
    assert attach(connection, client, "shelf") == ["shelf.one", "shelf.two"]
    query = "SELECT count(*) FROM shelf.one JOIN two USING (id)"
    assert connection.sql(query).fetchall() == [(10,)]
    connection.close()
    again = duckdb.connect(database)
    assert again.sql("SHOW ALL TABLES").fetchall() == []


def test_what_a_query_gives_can_be_appended(client: Client) -> None:
    table = TestContract().made(client)
    connection = duckdb.connect()
    attach(connection, table)
    assert (
        table.append(connection.sql("SELECT * REPLACE (id + 100 AS id) FROM t WHERE id < 3")) == 3
    )
    assert table.count_rows(filter="id >= 100") == 3


def test_a_dataset_for_others(client: Client) -> None:
    dataset = ScanDataset(TestContract().made(client).scan())
    assert dataset.schema == ENGINE_ROWS.schema
    assert dataset.count_rows() == 10
    assert dataset.count_rows(filter=pc.field("id") > 7) == 2
    assert dataset.head(3, columns=["id"]).num_rows == 3
    kept = pickle.loads(pickle.dumps(dataset)).to_table(
        columns=["text"], filter=pc.utf8_length(pc.field("text")) > 1
    )
    assert kept.column_names == ["text"]
    assert kept["text"].to_pylist() == ['a"b', "\\n"]


def test_a_limit_comes_before_the_predicate(client: Client) -> None:
    connection = duckdb.connect()
    attach(connection, TestContract().made(client).scan(limit=3), "few")
    assert connection.sql("SELECT id FROM few WHERE id >= 2").fetchall() == [(2,)]


def test_refusals(client: Client) -> None:
    with pytest.raises(UsageError, match="not a str"):
        attach(duckdb.connect(), "t")  # type: ignore[arg-type]
    table = TestContract().made(client)
    with pytest.raises(UsageError, match="connection of DuckDB is given, not a Table"):
        attach(table, duckdb.connect())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not empty"):
        attach(duckdb.connect(), table, "")
    assert sorted_rows(ENGINE_ROWS.slice(0, 0)) == []
