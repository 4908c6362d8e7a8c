"""A filter reads the batches of one segment that can hold a chosen row, and no others."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import update

import fletching
from fletching.catalog.schema import segments
from fletching.engine.reading.segment_reader import SegmentReader
from fletching.engine.tables.zone_bounds import ZONE_ROWS

BATCHES, ROWS = 40, 25
TOTAL = BATCHES * ROWS


def sorted_table() -> pa.Table:
    """Every column ascends, but for nulls, NaN and one that goes round."""
    numbers = np.arange(TOTAL)
    table = pa.table(
        {
            "id": numbers,
            "x": pa.array([float("nan") if n % 97 == 0 else n / 2 for n in numbers]),
            "gap": pa.array([None if n % 10 == 3 else int(n) for n in numbers]),
            "hole": pa.array([None if n < 500 else int(n) for n in numbers], pa.int32()),
            "round": pa.array(numbers // ROWS % 4, pa.int16()),
            "at": pa.array(numbers * 1_000_000, pa.timestamp("us")),
            "day": pa.array([dt.date(2024, 1, 1) + dt.timedelta(int(n)) for n in numbers]),
            "price": pa.array([Decimal(int(n)).scaleb(-2) for n in numbers], pa.decimal128(12, 2)),
            "text": pa.array([f"{n:06}" + "x" * 150 for n in numbers]),
            "s": pa.array(
                [{"in": {"n": int(n)}, "t": "y"} if n % 7 else None for n in numbers],
                pa.struct([("in", pa.struct([("n", pa.int64())])), ("t", pa.string())]),
            ),
        }
    )
    return pa.Table.from_batches(table.to_batches(max_chunksize=ROWS))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    with fletching.connect(str(tmp_path / "data"), project="p", create=True) as client:
        yield client


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("sorted") / "data"
    with fletching.connect(str(folder), project="p", create=True) as client:
        table = client.create_table("t", sorted_table().schema)
        table.append(sorted_table())
        yield table


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where the batches stand that are decoded."""
    result: list[int] = []
    decode = SegmentReader.decode

    def noted(self: SegmentReader, offset: int, end: int, columns: Any) -> Any:
        result.append(offset)
        return decode(self, offset, end, columns)

    monkeypatch.setattr(SegmentReader, "decode", noted)
    return result


def engine_of(client: Any) -> Any:
    return client.channel.transport.engine


def chosen(table: Any, predicate: str) -> list[int]:
    result: list[int] = table.scan(filter=predicate, columns=["id"]).to_table()["id"].to_pylist()
    return result


PREDICATES: list[tuple[str, Any, int]] = [
    ("id >= 500 AND id < 520", lambda n: 500 <= n < 520, 1),
    ("id = 77", lambda n: n == 77, 1),
    ("id IN (3, 600, 5000)", lambda n: n in (3, 600), 2),
    ("id < 0", lambda n: False, 0),
    ("id > 10 AND id < 10", lambda n: False, 1),
    ("x > 490", lambda n: n > 980 and n % 97, 1),
    ("gap IS NULL AND id < 30", lambda n: n % 10 == 3 and n < 30, 2),
    ("hole IS NOT NULL AND id < 530", lambda n: 500 <= n < 530, 2),
    ("hole < 510", lambda n: 500 <= n < 510, 1),
    ("round = 2", lambda n: n // ROWS % 4 == 2, BATCHES // 4),
    ("at >= TIMESTAMP '1970-01-01 00:16:35'", lambda n: n >= 995, 1),
    ("day = DATE '2024-02-01'", lambda n: n == 31, 1),
    ("price BETWEEN 1.00 AND 1.10", lambda n: 100 <= n <= 110, 1),
    ("text >= '000990'", lambda n: n >= 990, BATCHES),
    ("text < '000010'", lambda n: n < 10, 1),
    ("s.in.n = 512", lambda n: n == 512 and n % 7, 1),
    ("s.in.n < 5 OR id > 997", lambda n: (n < 5 and n % 7) or n > 997, 2),
    ("NOT (id < 990)", lambda n: n >= 990, 1),
]  # fmt: skip


@pytest.mark.parametrize(("predicate", "keeps", "read"), PREDICATES)
def test_a_filter_reads_what_can_match(
    table: Any, decoded: list[int], predicate: str, keeps: Any, read: int
) -> None:
    assert chosen(table, predicate) == [n for n in range(TOTAL) if keeps(n)]
    # Proven ones of the middle are not decoded at all: nothing of them is computed.
    assert len(set(decoded)) <= read


def test_the_same_rows_are_chosen_of_segments_without_bounds(client: Any) -> None:
    table = client.create_table("t", sorted_table().schema)
    table.append(sorted_table())
    with engine_of(client).context.database.write() as connection:
        connection.execute(update(segments).values(zone_bounds=None))
    for predicate, keeps, _ in PREDICATES:
        assert chosen(table, predicate) == [n for n in range(TOTAL) if keeps(n)]


def test_batches_all_of_whose_rows_are_chosen_go_as_they_are(
    table: Any, decoded: list[int]
) -> None:
    scan = table.scan(filter="id >= 30 AND id < 970")
    (split,) = scan.splits(1)
    with split.raw_reader() as stream:
        data = stream.read()
    assert pa.ipc.open_stream(data).read_all()["id"].to_pylist() == list(range(30, 970))
    assert len(set(decoded)) == 2
    # Nulls and NaN are neither chosen nor not, so their batches are looked at.
    assert chosen(table, "x >= 0") == [n for n in range(TOTAL) if n % 97]
    assert chosen(table, "gap >= 0") == [n for n in range(TOTAL) if n % 10 != 3]


def test_deleted_rows_stay_deleted_and_bounds_survive_compaction(
    client: Any, decoded: list[int]
) -> None:
    table = client.create_table("t", sorted_table().schema)
    table.append(sorted_table())
    table.append(sorted_table().slice(0, 100))
    table.delete("id >= 510 AND id < 540 OR id = 990")
    assert len(set(decoded)) <= 4  # the delete reads what can match, too
    gone = {*range(510, 540), 990}
    expected = [n for n in range(TOTAL) if n not in gone]
    everything = [*expected, *range(100)]

    def check() -> None:
        for low, high in ((500, 600), (0, 50), (980, 1000), (505, 512)):
            decoded.clear()
            result = chosen(table, f"id >= {low} AND id < {high}")
            assert result == [n for n in everything if low <= n < high]
            assert len(set(decoded)) <= (high - low) // ROWS + 3

    check()
    engine_of(client).compact(purge=True)
    assert len(table.scan().to_table()) == len(everything)
    check()


def test_of_a_large_batch_the_rows_that_can_match_are_looked_at(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 4 * ZONE_ROWS + 17
    table = client.create_table("t", pa.schema([("id", pa.int64()), ("v", pa.int64())]))
    table.append(pa.table({"id": np.arange(rows), "v": np.arange(rows)[::-1].copy()}))
    looked: list[int] = []
    from fletching.engine.reading.row_filter import RowFilter

    mask = RowFilter.mask

    def noted(self: RowFilter, batch: pa.RecordBatch, *rest: Any) -> Any:
        looked.append(batch.num_rows)
        return mask(self, batch, *rest)

    monkeypatch.setattr(RowFilter, "mask", noted)
    for low, high in ((5, 10), (ZONE_ROWS - 3, ZONE_ROWS + 3), (rows - 2, rows + 9), (0, rows)):
        predicate = f"id >= {low} AND id < {high}"
        assert chosen(table, predicate) == list(range(low, min(high, rows)))
    assert looked == [ZONE_ROWS, 2 * ZONE_ROWS, 17, rows]
    looked.clear()
    # Rows that are gone shift the others: the batch is looked at whole.
    table.delete("id = 0")
    looked.clear()
    assert chosen(table, "id >= 5 AND id < 10") == list(range(5, 10))
    assert looked == [rows - 1]


def test_sql_reads_what_can_match(client: Any, decoded: list[int]) -> None:
    pytest.importorskip("duckdb")
    table = client.create_table("t", sorted_table().schema)
    table.append(sorted_table())
    result = client.sql("SELECT count(*) AS n FROM t WHERE id BETWEEN 500 AND 509").to_table()
    assert result["n"].to_pylist() == [10]
    assert len(set(decoded)) == 1
