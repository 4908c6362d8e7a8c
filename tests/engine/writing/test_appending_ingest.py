"""A whole append in one body and one transaction: visible at once, exactly once, or not at all."""

from __future__ import annotations

import threading
from typing import Any

import pyarrow as pa
import pytest

from fletching.errors import (
    ConflictError,
    InvalidArgumentError,
    KeyReusedError,
    NoSuchTableError,
    TruncatedStreamError,
)
from fletching.protocol.messages.admin import AddColumns, ListPartitions
from fletching.protocol.messages.requests import AppendRows
from fletching.types import PartitionSpec, TableName

SCHEMA = pa.schema([("id", pa.int64())])


def ids(*values: int) -> Any:
    return pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)


def begin(house: Any, *batches: Any, cut: int | None = None, **options: Any) -> Any:
    """A body that has come in and is not finished."""
    options = {"table": house.table, **options}
    if isinstance(options.get("partition"), str):
        options["partition"] = PartitionSpec.parse(options["partition"])
    ingest = house.engine.open_ingest(AppendRows(**options))
    schema = batches[0].schema if batches else SCHEMA
    ingest.decoder.feed(house.stream_bytes(list(batches), schema)[:cut])
    ingest.accept(list(ingest.decoder))
    return ingest


def append(house: Any, *batches: Any, **options: Any) -> Any:
    return begin(house, *batches, **options).finish()


def stored(house: Any) -> list[int]:
    return list(house.read()["id"].to_pylist())


def test_rows_are_visible_when_it_returns_and_nothing_of_a_session_is_kept(house: Any) -> None:
    house.create(SCHEMA)
    before = house.describe().version
    result = append(house, ids(1, 2), ids(3), count=3)
    assert (result.rows, result.warning_message) == (3, "")
    assert (result.report.version, result.report.rows_inserted) == (before + 1, 3)
    assert stored(house) == [1, 2, 3]
    assert house.describe().version == before + 1
    with house.engine.context.database.read() as connection:
        count = connection.exec_driver_sql("select count(*) from write_sessions").scalar_one()
    assert count == 0
    assert [item for item in house.engine.verify() if item.problems] == []


def test_the_count_is_advice(house: Any) -> None:
    house.create(SCHEMA)
    assert "body has 2" in append(house, ids(1, 2), count=5).warning_message


def test_a_repeated_request_adds_nothing_and_has_the_same_answer(house: Any) -> None:
    house.create(SCHEMA)
    first = append(house, ids(1, 2), retry_trace_id="t")
    append(house, ids(3), retry_trace_id="u")
    again = append(house, ids(1, 2), retry_trace_id="t")
    assert again.report == first.report
    assert again.rows == 2
    assert stored(house) == [1, 2, 3]
    assert len(house.object_keys()) == 2
    # without an id every request is another one
    append(house, ids(3))
    assert stored(house) == [1, 2, 3, 3]


def test_two_bodies_of_one_request_become_one(house: Any) -> None:
    house.create(SCHEMA)
    both = [begin(house, ids(1), retry_trace_id="t") for _ in range(2)]
    first, second = (ingest.finish() for ingest in both)
    assert first.report == second.report
    assert stored(house) == [1]
    assert len(house.object_keys()) == 1


def test_a_key_of_the_callers_outlives_the_request(house: Any) -> None:
    house.create(SCHEMA)
    first = append(house, ids(1), idempotency_key="job-7", retry_trace_id="t")
    again = append(house, ids(1), idempotency_key="job-7", retry_trace_id="u")
    assert again.report == first.report
    assert stored(house) == [1]
    with pytest.raises(InvalidArgumentError):
        append(house, ids(1), idempotency_key="x" * 201)
    with pytest.raises(InvalidArgumentError):
        append(house, ids(1), retry_trace_id="x" * 201)


_OTHER_ROWS = (
    ([ids(1, 2)], "pt=a", "append of 3 rows"),  # fewer
    ([ids(1, 9, 3)], "pt=a", "append of 3 rows"),  # others in their place
)
_ELSEWHERE = ([ids(1, 2, 3)], "pt=b", "pt=a")


@pytest.mark.parametrize(
    ("identity", "others"),
    [("idempotency_key", [_ELSEWHERE]), ("retry_trace_id", [*_OTHER_ROWS, _ELSEWHERE])],
)
def test_a_key_is_of_one_append(house: Any, identity: str, others: Any) -> None:
    """A retry sends the same rows; a caller's key stands for whatever rows a job finds."""
    house.create(SCHEMA, ["pt"])
    key = {identity: "job-7"}
    first = append(house, ids(1, 2, 3), partition="pt=a", **key)
    if identity == "idempotency_key":
        for batches, partition, _ in _OTHER_ROWS:
            assert append(house, *batches, partition=partition, **key).report == first.report
    for batches, partition, message in others:
        with pytest.raises(KeyReusedError, match=message) as refused:
            append(house, *batches, partition=partition, **key)
        assert "version 1" in refused.value.message
        # Also where the first is not there yet when the body comes.
        late: Any = {identity: f"late {batches} {partition}"}
        bodies = [
            begin(house, *each, partition=where, **late)
            for each, where in (([ids(1, 2, 3)], "pt=a"), (batches, partition))
        ]
        bodies[0].finish()
        with pytest.raises(KeyReusedError, match=message):
            bodies[1].finish()
        bodies[1].abort()
    # Other batches of as many rows may be the same ones.
    for again in ([ids(1, 2, 3)], [ids(1), ids(2, 3)]):
        assert append(house, *again, partition="pt=a", **key).report == first.report
    assert len(stored(house)) == 3 * (1 + len(others))
    assert len(house.object_keys()) == 1 + len(others)


def test_rows_that_are_sent_otherwise_are_the_same_append(house: Any) -> None:
    house.create(SCHEMA)
    first = append(house, ids(1, 2), idempotency_key="k")
    narrow = pa.record_batch({"id": pa.array([1, 2], pa.int8())})
    empty = ids()
    same_width = pa.record_batch({"id": pa.array([1, 2], pa.uint64())})
    for again in ([narrow], [same_width], [ids(1, 2), empty], [empty, ids(1), ids(2)]):
        assert append(house, *again, idempotency_key="k").report == first.report
    session = house.session()
    house.stream(session)
    house.write(ids(1, 2), session)
    house.close(session)
    assert house.commit(session, idempotency_key="k").report == first.report
    assert stored(house) == [1, 2]


def test_a_version_may_be_asked_for(house: Any) -> None:
    house.create(SCHEMA)
    version = append(house, ids(1)).report.version
    late = begin(house, ids(3), if_version=version)
    append(house, ids(2), if_version=version)
    for refused in (late.finish, lambda: append(house, ids(4), if_version=version)):
        with pytest.raises(ConflictError):
            refused()
    assert stored(house) == [1, 2]
    assert len(house.object_keys()) == 2


def test_many_at_once_are_all_there(house: Any) -> None:
    house.create(SCHEMA)
    threads = [
        threading.Thread(target=lambda n=n: append(house, ids(n % 8), retry_trace_id=f"t{n % 8}"))
        for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(stored(house)) == list(range(8))
    assert house.describe().rows == 8


@pytest.mark.parametrize("partition", ["pt=a,hour=1", "pt=a", ""])
def test_rows_go_to_their_partition(house: Any, partition: str) -> None:
    house.create(SCHEMA, ["pt", "hour"])
    batch = ids(1, 2)
    for name, value in (("pt", "a"), ("hour", "1")):
        if name not in partition:
            batch = batch.append_column(name, pa.array([value] * 2))
    append(house, batch, partition=partition)
    assert house.read().to_pylist() == [{"id": n, "pt": "a", "hour": "1"} for n in (1, 2)]


def test_an_empty_body_makes_its_partition_and_no_segment(house: Any) -> None:
    house.create(SCHEMA, ["pt"])
    assert append(house, partition="pt=a").rows == 0
    page = house.engine.call(ListPartitions(table=house.table))
    assert [str(item.partition) for item in page.partitions] == ["pt=a"]
    assert house.object_keys() == set()


@pytest.mark.parametrize("partition", ["other=1", "pt=a,pt=b"])
def test_partitions_that_are_not_the_tables(house: Any, partition: str) -> None:
    house.create(SCHEMA, ["pt"])
    with pytest.raises(Exception, match=r"other|twice"):
        append(house, ids(1), partition=partition)


def test_what_is_refused_leaves_nothing(house: Any) -> None:
    house.create(SCHEMA)
    with pytest.raises(NoSuchTableError):
        append(house, ids(1), table=TableName("demo", "other"))
    with pytest.raises(InvalidArgumentError, match="'x'"):
        append(house, pa.record_batch({"x": [1]}))
    with pytest.raises(TruncatedStreamError):
        append(house, ids(1), cut=-8)
    broken = begin(house, ids(1), cut=-8)
    assert broken.abort()
    assert house.object_keys() == set()
    assert stored(house) == []


def test_a_table_that_is_dropped_in_mid_body(house: Any) -> None:
    from fletching.protocol.messages.admin import DropTable

    house.create(SCHEMA)
    late = begin(house, ids(1))
    house.engine.call(DropTable(table=house.table))
    with pytest.raises(NoSuchTableError):
        late.finish()
    assert house.object_keys() == set()


def test_columns_added_in_mid_body_are_null(house: Any) -> None:
    from fletching.ipc.encoding import encode_schema

    house.create(SCHEMA)
    late = begin(house, ids(1))
    added = encode_schema(pa.schema([("x", pa.int8())]))
    house.engine.call(AddColumns(table=house.table, arrow_schema=added))
    late.finish()
    assert house.read().to_pylist() == [{"id": 1, "x": None}]


def test_a_table_with_a_key_replaces_rows(house: Any) -> None:
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("x", pa.string())])
    house.create(schema, primary_key=("id",))
    rows = pa.record_batch([pa.array([1, 2]), pa.array(["a", "b"])], schema=schema)
    append(house, rows)
    result = append(house, pa.record_batch([pa.array([2, 3]), pa.array(["c", "d"])], schema=schema))
    assert sorted(house.read().to_pydict()["x"]) == ["a", "c", "d"]
    assert result.report.rows_updated + result.report.rows_inserted == 2
