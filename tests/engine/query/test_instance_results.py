"""Rows of queries as they are kept: beside the outcome or as segments, read the same either way."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from fletching.catalog.instance_rows import InstanceRow
from fletching.engine.query import instance_results
from fletching.engine.query.instance_results import Results, Selection, selection_of
from fletching.errors import ConflictError, InvalidArgumentError, NotFoundError
from fletching.protocol.messages.requests import ReadInstance

SCHEMA = pa.schema([("Id", pa.int64()), ("s", pa.string())])
ROWS = 5


def batches(count: int = ROWS) -> Iterator[pa.RecordBatch]:
    for number in range(count):
        yield pa.record_batch([[number], [f"r{number}"]], schema=SCHEMA)


@pytest.fixture(params=["inline", "segments"])
def results(house: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Results:
    """Keeps rows beside the outcome, or, as of many rows, elsewhere."""
    house.engine.ensure_project("demo")
    if request.param == "segments":
        monkeypatch.setattr(instance_results, "INLINE_BYTES", 1)
    return Results(house.engine.context)


def row_of(sql: Any, selection: Selection) -> InstanceRow:
    """An instance that has ended with this."""
    ended: InstanceRow = sql.instances.run("select 1 as a", sql_here())
    return dataclasses.replace(ended, selection=msgspec.msgpack.encode(selection))


def sql_here() -> Any:
    from fletching.sql.statements.statement_kinds import Namespace

    return Namespace("demo", "default")


def read(results: Results, row: InstanceRow, **options: Any) -> list[dict[str, Any]]:
    request = ReadInstance(project="demo", instance_id=row.id, session_id=row.id, **options)
    plan = results.read(row, request)
    table = pa.Table.from_batches(list(plan.batches()), plan.schema)
    for _ in range(2):  # a plan is sent as often as it is asked for
        body = b"".join(bytes(piece) for piece in plan.buffers())
        assert pa.ipc.open_stream(body).read_all().to_pylist() == table.to_pylist()
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def test_rows_are_kept_and_read_in_parts_and_by_columns(results: Results, sql: Any) -> None:
    selection = results.store(SCHEMA, batches())
    assert (selection.has_rows, selection.rows) == (True, ROWS)
    assert bool(selection.stream) is not bool(selection.listing)
    row = row_of(sql, selection)
    whole = [{"Id": n, "s": f"r{n}"} for n in range(ROWS)]
    assert read(results, row) == whole
    assert read(results, row, offset=3) == whole[3:]
    assert read(results, row, offset=1, count=2) == whole[1:3]
    assert read(results, row, offset=ROWS) == []
    assert read(results, row, columns=("S",)) == [{"s": each["s"]} for each in whole]
    assert results.rows(row) == ROWS
    assert results.arrow_schema(row) == SCHEMA
    session = results.session(row)
    assert (session.session_id, session.record_count) == (row.id, ROWS)
    assert [column.name for column in results.schema(row).data_columns] == ["Id", "s"]


def test_what_is_not_there_is_refused(results: Results, sql: Any) -> None:
    row = row_of(sql, results.store(SCHEMA, batches()))
    with pytest.raises(InvalidArgumentError, match="beyond the 5 rows"):
        read(results, row, offset=ROWS + 1)
    with pytest.raises(InvalidArgumentError, match="none"):
        read(results, row, columns=("none",))
    request = ReadInstance(project="demo", instance_id=row.id, session_id="other")
    with pytest.raises(NotFoundError, match="no read session other"):
        results.read(row, request)


def test_a_query_without_rows_has_a_schema(results: Results, sql: Any) -> None:
    row = row_of(sql, results.store(SCHEMA, iter(())))
    assert read(results, row) == []
    assert results.arrow_schema(row) == SCHEMA
    assert results.text(row) == '"Id","s"\n'


def test_rows_as_text_are_quoted_and_bounded(
    results: Results, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance_results, "MAX_CSV_ROWS", 3)
    row = row_of(sql, results.store(SCHEMA, batches()))
    header, *lines = csv.reader(io.StringIO(results.text(row)))
    assert header == ["Id", "s"]
    assert lines == [["0", "r0"], ["1", "r1"], ["2", "r2"]]


def test_statements_without_rows_and_without_an_end(results: Results, sql: Any) -> None:
    row = row_of(sql, Selection(affected=3))
    assert results.arrow_schema(row) is None
    assert results.text(row) == row.result
    for ask in (results.rows, results.schema, results.session):
        with pytest.raises(InvalidArgumentError, match="is no SELECT"):
            ask(row)
        with pytest.raises(ConflictError, match="has not ended"):
            ask(dataclasses.replace(row, ended_at=0.0))


def test_an_instance_that_kept_nothing_has_an_empty_selection(sql: Any) -> None:
    row = row_of(sql, Selection())
    assert selection_of(dataclasses.replace(row, selection=b"")) == Selection()
    lost = row_of(sql, Selection(has_rows=True, rows=1))
    with pytest.raises(NotFoundError, match="kept no longer"):
        Results(sql.house.engine.context).text(lost)
