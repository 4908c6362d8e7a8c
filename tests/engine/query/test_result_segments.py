"""Rows of large results: kept without the catalog, read in parts, and collected by their age."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.query.result_segments import (
    KEPT_SECONDS,
    RESULTS_PREFIX,
    ResultSegments,
    forget_results,
)
from fletching.errors import CorruptObjectError, InvalidArgumentError, NotFoundError

SCHEMA = pa.schema(
    [
        ("n", pa.int64()),
        ("text", pa.string()),
        ("at", pa.timestamp("ms")),
        ("list", pa.list_(pa.struct([("d", pa.decimal128(38, 18))]))),
    ]
)
ROWS = 1000


def made(start: int, count: int) -> pa.RecordBatch:
    numbers = range(start, start + count)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(numbers, pa.int64()),
            pa.array([None if n % 7 == 0 else f"row {n}" for n in numbers]),
            pa.array([n * 1000 for n in numbers], pa.timestamp("ms")),
            pa.array([[{"d": n}] * (n % 3) for n in numbers], SCHEMA.field("list").type),
        ],
        schema=SCHEMA,
    )


WHOLE = pa.Table.from_batches([made(0, ROWS)])


def batches(size: int = 300) -> Iterator[pa.RecordBatch]:
    for start in range(0, ROWS, size):
        yield made(start, min(size, ROWS - start))


def keys(house: Any) -> list[str]:
    return sorted(info.key for info in house.engine.context.store.list(RESULTS_PREFIX))


def read(results: ResultSegments, listing: str, *args: Any, **options: Any) -> pa.Table:
    plan = results.plan(listing, *args, **options)
    table = pa.Table.from_batches(list(plan.batches()), plan.schema)
    body = b"".join(bytes(piece) for piece in plan.buffers())
    assert pa.ipc.open_stream(body).read_all().equals(table)
    return table


@pytest.mark.parametrize("segment_bytes", [1, 20_000, 1 << 30])
def test_rows_are_read_as_they_were_written(
    house: Any, monkeypatch: pytest.MonkeyPatch, segment_bytes: int
) -> None:
    monkeypatch.setattr("fletching.engine.query.result_segments.SEGMENT_BYTES", segment_bytes)
    results = ResultSegments(house.engine.context)
    listing, rows = results.write(SCHEMA, batches())
    assert rows == ROWS
    assert len(keys(house)) == {1: 5, 20_000: 3, 1 << 30: 2}[segment_bytes]
    for reader in (results, ResultSegments(house.engine.context)):
        assert reader.schema(listing) == SCHEMA
        assert read(reader, listing, 0, ROWS).equals(WHOLE)
        assert read(reader, listing, 299, 302).equals(WHOLE.slice(299, 302))
        assert read(reader, listing, ROWS, 0).num_rows == 0
        chosen = read(reader, listing, 10, 500, ("AT", "n"), max_rows=7, codec="zstd")
        assert chosen.equals(WHOLE.select(["at", "n"]).slice(10, 500))
    with pytest.raises(InvalidArgumentError, match="nothing"):
        results.plan(listing, 0, 1, ("nothing",))


def test_a_result_without_rows(house: Any) -> None:
    results = ResultSegments(house.engine.context)
    listing, rows = results.write(SCHEMA, iter(()))
    assert rows == 0
    assert read(results, listing, 0, 0).schema == SCHEMA


@pytest.mark.parametrize("after", [0, 1, 3])
def test_what_fails_leaves_nothing(house: Any, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    monkeypatch.setattr("fletching.engine.query.result_segments.SEGMENT_BYTES", 1)

    def failing() -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(batches()):
            if number == after:
                raise InvalidArgumentError("no")
            yield batch

    with pytest.raises(InvalidArgumentError, match="no"):
        ResultSegments(house.engine.context).write(SCHEMA, failing())
    assert keys(house) == []


def test_results_go_after_a_day_and_no_others(house: Any) -> None:
    context = house.engine.context
    results = ResultSegments(context)
    old, _ = results.write(SCHEMA, batches())
    house.clock.advance(KEPT_SECONDS / 2)
    new, _ = results.write(SCHEMA, batches())
    house.clock.advance(KEPT_SECONDS / 2 + 1)
    house.engine.collect()
    assert old not in keys(house)
    assert new in keys(house)
    assert context.folders(RESULTS_PREFIX) == [new.rpartition("/")[0]]
    house.clock.advance(KEPT_SECONDS)
    assert [info.key for info in forget_results(context, dry_run=True)]
    assert new in keys(house)
    assert len(forget_results(context)) == 2
    assert keys(house) == []
    assert context.folders(RESULTS_PREFIX) == []
    with pytest.raises(NotFoundError, match="kept no longer"):
        ResultSegments(context).plan(new, 0, 1)


def test_results_are_no_orphans(house: Any) -> None:
    results = ResultSegments(house.engine.context)
    listing, _ = results.write(SCHEMA, batches())
    house.engine.collect(force=True)
    assert read(results, listing, 0, ROWS).equals(WHOLE)


def test_what_is_not_ours_is_left_alone(house: Any) -> None:
    with house.engine.context.store.create(f"{RESULTS_PREFIX}/else/x") as sink:
        sink.write(b"x")
        sink.commit()
    house.clock.advance(10 * KEPT_SECONDS)
    assert forget_results(house.engine.context) == []


@pytest.mark.parametrize("content", [b"", b"\xff", b"\x92\xc4\x01x\x90", b"\x92\xc4\x00\x91\x01"])
def test_a_damaged_list_is_told(house: Any, content: bytes) -> None:
    with house.engine.context.store.create(f"{RESULTS_PREFIX}/1/x.list") as sink:
        sink.write(content)
        sink.commit()
    with pytest.raises(CorruptObjectError, match="damaged"):
        ResultSegments(house.engine.context).schema(f"{RESULTS_PREFIX}/1/x.list")
