from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching.client.writing import batching as bodies
from fletching.client.writing.batching import Body, BodyBuffer
from fletching.testing.strategies import record_batches

SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string())])


def numbers(rows: int) -> pa.RecordBatch:
    return pa.record_batch({"a": pa.array(range(rows), pa.int64())})


def all_bodies(buffer: BodyBuffer, batches: list[Any]) -> list[Body]:
    made = [body for batch in batches for body in buffer.add(batch)]
    last = buffer.take()
    return made if last is None else [*made, last]


@settings(deadline=None, max_examples=80)
@given(st.lists(record_batches(SCHEMA, max_rows=20), max_size=10), st.integers(1, 1000))
def test_every_row_is_in_one_body_in_order(batches: list[Any], limit: int) -> None:
    made = all_bodies(BodyBuffer(limit), batches)
    parts = [batch for body in made for batch in body.batches]
    assert pa.Table.from_batches(parts, SCHEMA) == pa.Table.from_batches(batches, SCHEMA)
    for body in made:
        assert body.rows == sum(batch.num_rows for batch in body.batches) > 0
        assert len(body.batches) == 1 or sum(b.nbytes for b in body.batches) <= limit


def test_batches_keep_their_boundaries_and_themselves() -> None:
    first, second = numbers(10), numbers(20)
    (body,) = all_bodies(BodyBuffer(10_000), [first, second])
    assert body.batches[0] is first
    assert body.batches[1] is second


def test_a_full_body_is_given_at_once() -> None:
    buffer = BodyBuffer(80)
    assert [body.rows for body in buffer.add(numbers(10))] == [10]
    assert buffer.take() is None


def test_another_schema_begins_another_body() -> None:
    other = pa.record_batch({"a": pa.array([1], pa.int32())})
    made = all_bodies(BodyBuffer(10_000), [numbers(1), numbers(1), other])
    assert [(body.rows, body.schema.field("a").type) for body in made] == [
        (2, pa.int64()),
        (1, pa.int32()),
    ]


def test_a_batch_above_the_limit_is_cut() -> None:
    made = all_bodies(BodyBuffer(800), [numbers(1000)])
    assert [body.rows for body in made] == [100] * 10


def test_thousands_of_tiny_batches_are_joined() -> None:
    count = bodies.MAX_BATCHES + 1
    (body,) = all_bodies(BodyBuffer(1 << 20), [numbers(2)] * count)
    assert len(body.batches) == 1
    assert body.rows == 2 * count
    (body,) = all_bodies(BodyBuffer(1 << 20), [numbers(2)] * bodies.MAX_BATCHES)
    assert len(body.batches) == bodies.MAX_BATCHES


def test_clearing_forgets() -> None:
    buffer = BodyBuffer(10_000)
    assert list(buffer.add(numbers(3))) == []
    assert (buffer.held_rows, buffer.held_bytes) == (3, 24)
    buffer.clear()
    assert buffer.take() is None
    assert (buffer.held_rows, buffer.held_bytes) == (0, 0)


@settings(deadline=None, max_examples=60)
@given(st.lists(record_batches(SCHEMA, min_rows=1, max_rows=9), min_size=1, max_size=5))
def test_halves_are_the_same_rows(batches: list[Any]) -> None:
    rows = sum(batch.num_rows for batch in batches)
    halves = Body(SCHEMA, tuple(batches), rows).halves()
    if rows == 1:
        assert halves is None
        return
    assert halves is not None
    first, second = halves
    assert (first.rows, second.rows) == (rows // 2, rows - rows // 2)
    for half in halves:
        assert half.rows == sum(batch.num_rows for batch in half.batches)
        assert all(batch.num_rows for batch in half.batches)
    together = [*first.batches, *second.batches]
    assert pa.Table.from_batches(together, SCHEMA) == pa.Table.from_batches(batches, SCHEMA)
