"""What reading asks of the catalog: few statements, each answered by an index, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import event

from fletching.engine.reading import read_sessions
from fletching.errors import NoSuchPartitionError
from fletching.protocol.messages.admin import DropPartition, ListPartitions
from fletching.protocol.messages.requests import CreateReadSession, ReadTable, SplitOptions
from fletching.protocol.messages.vocabulary import SplitMode
from fletching.types import PartitionSpec, TableName

T = TableName("demo", "t")
SCHEMA = pa.schema([("id", pa.int64())])

both = pytest.mark.parametrize("catalog", ["sqlite", "postgresql"], indirect=True)


def rows(*values: int) -> pa.Table:
    return pa.table({"id": list(values)}, schema=SCHEMA)


Statements = list[tuple[str, Any]]


@pytest.fixture
def watched(open_house: Callable[..., Any]) -> Iterator[tuple[Any, Statements]]:
    """A house with three partitions of two segments, and the statements that its engine runs."""
    house = open_house()
    house.create(SCHEMA, ["day"])
    for day in ("1", "2", "3"):
        for start in (0, 10):
            house.append(rows(*range(start, start + 10)), f"day={day}")
    engine = house.engine.context.database._engine
    seen: Statements = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        # What sets a SQLite connection up is no question.
        if not statement.startswith(("PRAGMA", "BEGIN")):
            seen.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    yield house, seen
    event.remove(engine, "before_cursor_execute", note)


def request(**more: Any) -> CreateReadSession:
    splits = SplitOptions(split_mode=SplitMode.PARALLELISM, split_number=2)
    return CreateReadSession(table=T, split_options=splits, **more)


@both
def test_a_session_opens_with_three_statements(watched: tuple[Any, Statements]) -> None:
    house, seen = watched
    house.engine.call(request())  # counts the open sessions, once in a while
    house.append(rows(1), "day=1")
    seen.clear()
    house.engine.call(request())
    assert len(seen) <= 3, seen
    seen.clear()
    partitions = tuple(PartitionSpec.parse(f"day={day}") for day in "13")
    session: Any = house.engine.call(request(required_partitions=partitions))
    assert len(seen) <= 3, seen
    assert session.record_count == 41
    seen.clear()
    with pytest.raises(NoSuchPartitionError):
        house.engine.call(request(required_partitions=(PartitionSpec.parse("day=7"),)))
    assert len(seen) <= 3, seen


def test_splits_of_a_large_table_are_counted_without_its_segments(
    watched: tuple[Any, Statements], monkeypatch: pytest.MonkeyPatch
) -> None:
    house, seen = watched
    by_size = CreateReadSession(table=T)
    exact: Any = house.engine.call(by_size)
    house.append(rows(1), "day=1")  # nothing is kept of a version that nobody has read
    monkeypatch.setattr(read_sessions, "GRID_SEGMENTS", 2)
    seen.clear()
    session: Any = house.engine.call(by_size)
    assert session.record_count == exact.record_count + 1
    assert not [text for text, _ in seen if "FROM segments" in text], seen


def plans(house: Any, seen: Statements) -> Iterator[tuple[str, str]]:
    """Each statement that looks for rows, and how the database would go about it."""
    engine = house.engine.context.database._engine
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            # Small tables are read whole by choice; what has no index is read so all the same.
            connection.exec_driver_sql("SET enable_seqscan = off")
        for statement, parameters in dict(seen).items():
            if not statement.lstrip().upper().startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
                continue
            if " FROM " not in statement.upper().replace("\n", " "):
                continue
            if engine.dialect.name == "postgresql":
                lines = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
                yield statement, "\n".join(row[0] for row in lines)
            else:
                lines = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                yield statement, "\n".join(row[3] for row in lines)


def check_indexed(house: Any, seen: Statements) -> None:
    chosen = list(plans(house, seen))
    assert chosen
    for statement, plan in chosen:
        for line in plan.splitlines():
            scans = "Seq Scan on" in line or (
                line.startswith("SCAN ") and "INDEX" not in line and "anon_" not in line
            )
            assert not scans, f"{statement}\n{plan}"


@both
@pytest.mark.parametrize(
    "partitions",
    [
        (),
        (PartitionSpec.parse("day=2"),),
        (PartitionSpec.parse("day=1"), PartitionSpec.parse("day=3")),
    ],
)
def test_reading_goes_by_indexes(
    watched: tuple[Any, Statements], partitions: tuple[PartitionSpec, ...]
) -> None:
    house, seen = watched
    for version in (None, house.describe().version - 1):
        session = house.engine.call(request(required_partitions=partitions, version=version))
        read = ReadTable(table=T, session_id=session.session_id, index=0)
        list(house.engine.read(read).batches())
    house.append(rows(1), "day=1")
    session = house.engine.call(request(required_partitions=partitions))
    list(house.engine.read(ReadTable(table=T, session_id=session.session_id, index=0)).batches())
    house.engine.call(ListPartitions(table=T))
    check_indexed(house, seen)


@both
def test_one_partition_looks_at_no_segment_of_another(watched: tuple[Any, Statements]) -> None:
    house, seen = watched
    session = house.engine.call(request(required_partitions=(PartitionSpec.parse("day=2"),)))
    list(house.engine.read(ReadTable(table=T, session_id=session.session_id, index=0)).batches())
    result = [plan for statement, plan in plans(house, seen) if "FROM segments" in statement]
    assert result
    for plan in result:
        assert "ix_segments_table_id_partition" in plan, plan


@both
def test_upkeep_goes_by_indexes(watched: tuple[Any, Statements]) -> None:
    house, seen = watched
    house.engine.call(request())
    house.clock.advance(10 * 86_400)
    house.engine.collect()
    # Of writers there is a row for each server.
    check_indexed(house, [each for each in seen if "FROM writers" not in each[0]])


def test_what_is_dropped_is_still_found_in_an_older_version(open_house: Any) -> None:
    house = open_house()
    house.create(SCHEMA, ["day", "hour"])
    for day in ("1", "2"):
        house.append(rows(int(day)), f"day={day}/hour=0")
    version = house.describe().version
    house.engine.call(DropPartition(table=T, partition=PartitionSpec.parse("day=1/hour=0")))
    session = house.engine.call(
        request(version=version, required_partitions=(PartitionSpec.parse("day=1"),))
    )
    assert session.record_count == 1
    read = ReadTable(table=T, session_id=session.session_id)
    result = pa.Table.from_batches(list(house.engine.read(read).batches()))
    assert result.column("id").to_pylist() == [1]
