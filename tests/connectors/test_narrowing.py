"""What engines push into a scan adds to what it says, and changes no answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import fletching
from fletching.client import Table
from fletching.connectors.narrowing import filtered_batches, missing, narrowed, scan_of, table_of
from fletching.errors import MissingExtraError, UsageError

ROWS = pa.table(
    {
        "id": range(10),
        "text": [None if n == 3 else "t" * n for n in range(10)],
        "point": [{"x": n % 4} for n in range(10)],
    }
)
ID, TEXT = pc.field("id"), pc.field("text")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    folder: Path = tmp_path_factory.mktemp("data")
    with fletching.connect(folder, project="demo", create=True) as client:
        table = client.create_table("t", ROWS.schema)
        table.append(ROWS.slice(0, 4))
        table.append(ROWS.slice(4))
        yield table


def read(source: Any, columns: list[str] | None, expression: pc.Expression | None) -> pa.Table:
    schema, batches = filtered_batches(scan_of(source), columns, expression)
    return pa.Table.from_batches(list(batches), schema)


def test_a_table_or_a_scan_is_read(table: Table) -> None:
    assert scan_of(table).columns is None
    scan = table.scan(["id"])
    assert scan_of(scan) is scan
    for other in ("t", None, ROWS):
        with pytest.raises(UsageError, match=f"not to a {type(other).__name__}"):
            table_of(other)
        with pytest.raises(UsageError, match=f"not a {type(other).__name__}"):
            scan_of(other)  # type: ignore[arg-type]


def test_parts_are_added(table: Table) -> None:
    scan = table.scan(filter="id > 1 OR id < 0")
    both = narrowed(scan, ["text"], "id < 5", 7)
    assert (both.columns, both.limit) == (("text",), 7)
    assert both.filter == "(id > 1 OR id < 0) AND (id < 5)"
    assert both.to_table()["text"].to_pylist() == ["tt", None, "tttt"]
    assert narrowed(narrowed(table.scan(), limit=3), limit=9).limit == 3
    assert narrowed(scan) == scan
    assert narrowed(scan, []).columns == ()
    with pytest.raises(UsageError, match="list of names, not 'id'"):
        narrowed(table.scan(), "id")


def test_no_condition_goes_below_a_limit(table: Table) -> None:
    with pytest.raises(UsageError, match="limit"):
        narrowed(table.scan(limit=3), None, "id > 1")
    assert read(table.scan(limit=3), ["id"], ID > 1)["id"].to_pylist() == [2]


@pytest.mark.parametrize("columns", [None, ["text"], ["point", "id"], []])
@pytest.mark.parametrize(
    "expression",
    [
        None,
        ID > 4,
        (ID > 4) & (pc.utf8_length(TEXT) < 8),
        pc.utf8_length(TEXT) > 100,
        TEXT.is_null(),
        pc.field("point", "x") == 1,
        (pc.field("point", "x") == 1) | (pc.utf8_length(TEXT) == 2),
    ],
    ids=str,
)
def test_the_rows_are_those_of_pyarrow(
    table: Table, columns: list[str] | None, expression: pc.Expression | None
) -> None:
    kept = ROWS if expression is None else ROWS.filter(expression)
    result = read(table, columns, expression)
    if columns == []:
        assert (result.num_columns, sum(b.num_rows for b in _batches(table, expression))) == (
            0,
            kept.num_rows,
        )
        return
    assert result.to_pylist() == kept.select(columns or ROWS.column_names).to_pylist()


def _batches(table: Table, expression: pc.Expression | None) -> list[pa.RecordBatch]:
    return list(filtered_batches(scan_of(table), [], expression)[1])


def test_what_to_install_is_said() -> None:
    error = missing("ray", ImportError("No module named 'ray'"))
    assert isinstance(error, MissingExtraError)
    assert "pip install 'fletching[ray]'" in str(error)
