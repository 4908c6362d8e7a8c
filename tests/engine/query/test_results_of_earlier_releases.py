"""Large results were tables of a hidden project once: nobody gets at them after an upgrade, and they go."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from tests.engine.conftest import ManualClock

import fletching
from fletching.engine.engine import Engine
from fletching.errors import NoPermissionError, NotFoundError
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.admin import CreateTable, ListTables, TablePage
from fletching.sql.statements.statement_kinds import Namespace
from fletching.types import RESULTS_PROJECT, TableName

TABLE = TableName(RESULTS_PROJECT, "i20260101000000000aaaaaaaaaaaa")
DAY = 86_400.0


def make(engine: Engine) -> None:
    engine.ensure_project(RESULTS_PROJECT)
    schema = encode_schema(pa.schema([("a", pa.int64())]))
    engine.call(CreateTable(table=TABLE, arrow_schema=schema))


def names(engine: Engine) -> list[str]:
    page = engine.call(ListTables(project=RESULTS_PROJECT, max_items=10))
    assert isinstance(page, TablePage)
    return [info.table.name for info in page.tables]


def test_they_stay_for_their_day_and_go(tmp_path: Path) -> None:
    clock = ManualClock()
    with Engine.open(tmp_path / "data", clock=clock) as engine:
        engine.ensure_project("demo")
        make(engine)
        assert engine.projects() == ["demo"]
        clock.advance(DAY - 1)
        engine.collect()
        assert names(engine) == [TABLE.name]
        clock.advance(2)
        assert ("result", TABLE.name) in [(c.kind, c.name) for c in engine.collect().collected]
        assert names(engine) == []


def test_they_are_read_by_nobody(tmp_path: Path) -> None:
    with fletching.serve(tmp_path / "data", port=0) as server:
        make(server.service.engine)
        access_id, secret = server.access_key
        with (
            fletching.connect(
                server.url, project=RESULTS_PROJECT, access_id=access_id, access_key=secret
            ) as client,
            pytest.raises(NoPermissionError, match="by their instance"),
        ):
            client.table(TABLE.name)


def test_a_statement_of_then_has_no_rows_any_more(tmp_path: Path) -> None:
    with Engine.open(tmp_path / "data") as engine:
        engine.ensure_project("demo")
        row = engine.instances.run("select 1 a", Namespace("demo", "default"))
        then = msgspec.msgpack.encode(
            {"has_rows": True, "rows": 70_000, "table": TABLE, "session_id": "x"}
        )
        old = dataclasses.replace(row, selection=then)
        with pytest.raises(NotFoundError, match="kept no longer"):
            engine.instances._results.schema(old)
