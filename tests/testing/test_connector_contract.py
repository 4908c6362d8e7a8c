"""The contract of connectors holds for a plain scan, and finds connectors that are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.client import Client, Scan, Table
from fletching.testing import connector_contract
from fletching.testing.engine_rows import sql_of


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with fletching.connect(tmp_path / "data", project="demo", create=True) as client:
        yield client


class Plain(connector_contract.ConnectorContract):
    """A connector of no engine."""

    def read(self, source: Table | Scan, columns: list[str] | None = None) -> pa.Table:
        rows = source.to_table()
        return rows if columns is None else rows.select(columns)

    def count(self, source: Table | Scan) -> int:
        return self.read(source).num_rows

    def write(self, data: pa.Table, table: Table, *, overwrite: bool) -> None:
        (table.overwrite if overwrite else table.append)(data)

    def write_changed(self, data: pa.Table, table: Table, change: Any) -> None:
        table.append(change(data))

    def where(self, source: Table, column: str, operator: str, value: Any) -> list[int]:
        condition = sql_of(column, operator, value) + ("D" if isinstance(value, float) else "")
        result: list[int] = source.scan(filter=condition).to_table()["id"].to_pylist()
        return result


def test_a_plain_scan_keeps_it(client: Client) -> None:
    Plain().test_conditions_change_no_answer(client)


@pytest.mark.parametrize(
    "name", ["test_tables_that_have_changed", "test_a_table_with_a_primary_key", "test_writing"]
)
def test_each_of_its_tests_is_kept(client: Client, name: str) -> None:
    getattr(Plain(), name)(client)


def test_what_is_wrong_is_found(client: Client) -> None:
    class DropsNulls(Plain):
        def where(self, source: Table, column: str, operator: str, value: Any) -> list[int]:
            result = super().where(source, column, operator, value)
            return result[1:] if value is None else result

    with pytest.raises(AssertionError, match="is null"):
        DropsNulls().test_conditions_change_no_answer(client)


def test_half_of_a_failed_write_is_found(client: Client) -> None:
    class Commits(Plain):
        def write_changed(self, data: pa.Table, table: Table, change: Any) -> None:
            table.append(data.slice(0, 2))
            super().write_changed(data, table, change)

    with pytest.raises(AssertionError):
        Commits().test_a_failing_task_changes_nothing(client, list)


def test_hooks_that_are_missing_skip() -> None:
    class Bare(connector_contract.ConnectorContract):
        def read(self, source: Table | Scan, columns: list[str] | None = None) -> pa.Table:
            raise AssertionError

        def count(self, source: Table | Scan) -> int:
            raise AssertionError

    for call in (
        lambda: Bare().where(None, "id", ">", 1),  # type: ignore[arg-type]
        lambda: Bare().stop_early(None),  # type: ignore[arg-type]
        lambda: Bare().write_keyed(None, None, "k"),  # type: ignore[arg-type]
        lambda: Bare().write_changed(None, None, connector_contract.fails),  # type: ignore[arg-type]
        lambda: Bare().write_doubled(None, None),  # type: ignore[arg-type]
    ):
        with pytest.raises(pytest.skip.Exception):
            call()
