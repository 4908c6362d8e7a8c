"""Which partitions, segments and rows a filter chooses, and what it opens on the way."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.reading.read_plan import Computed, Extent
from fletching.engine.reading.segment_reader import SegmentReader
from fletching.engine.tables.statistics import StatisticsBuilder
from fletching.errors import InvalidArgumentError

SCHEMA = pa.schema([("id", pa.int64()), ("st", pa.struct([("a", pa.int64())]))])


def batch(*ids: int | None) -> pa.RecordBatch:
    rows = [None if value is None else {"a": value * 10} for value in ids]
    return pa.record_batch(
        [pa.array(ids, pa.int64()), pa.array(rows, SCHEMA.field(1).type)], SCHEMA
    )


def recorded(batch: pa.RecordBatch) -> bytes:
    builder = StatisticsBuilder(batch.schema)
    builder.add(batch.columns)
    return builder.encode()


def add(shelf: Any, batch: pa.RecordBatch, partition: tuple[str, ...] = ()) -> str:
    key: str = shelf.add(batch, partition, statistics=recorded(batch))
    return key


def chosen(shelf: Any, text: str, **request: Any) -> list[Any]:
    session = shelf.session(filter_predicate=text)
    ids: list[Any] = shelf.read(session, data_columns=("id",), **request)["id"].to_pylist()
    return ids


@pytest.fixture
def parted(shelf: Any) -> Any:
    """Four partitions of a text and a number, two rows each."""
    shelf.create(SCHEMA, [("pt", "string"), ("n", "int")])
    for number, (pt, n) in enumerate([("a", "1"), ("a", "2"), ("b", "1"), ("b", "10")]):
        add(shelf, batch(number * 2, number * 2 + 1), (pt, n))
    return shelf


@pytest.mark.parametrize(
    ("text", "ids", "opened"),
    [
        ("pt = 'a'", [0, 1, 2, 3], 2),
        ("pt = 'a' and n = 2", [2, 3], 1),
        ("n > 1", [2, 3, 6, 7], 2),
        ("n in (1, 10)", [0, 1, 4, 5, 6, 7], 3),
        ("not (pt = 'a' or n = 10)", [4, 5], 1),
        ("pt like 'b%' and n <> 1", [6, 7], 1),
        ("pt > 'zzz'", [], 0),
        ("pt is null", [], 0),
        ("pt = null", [], 0),
        ("true", list(range(8)), 4),
        ("1 = 2", [], 0),
        ("pt = 'a' and id >= 3", [3], 1),
        ("pt = 'a' and id > 100", [], 0),
        ("pt = 'b' or id = 0", [0, 4, 5, 6, 7], 3),
        ("(pt = 'b' and id = 4) or (n = 2 and id = 3)", [3, 4], 2),
        ("st.a = 50", [5], 1),
        ("st.a > 1000", [], 0),
        ("id = n", [1, 2], 4),
        ("events.id = 3 and events.st.a = 30", [3], 1),
    ],
)
def test_only_what_can_match_is_opened(parted: Any, text: str, ids: list[int], opened: int) -> None:
    plan = parted.plan(parted.session(filter_predicate=text))
    parted.store.opened.clear()
    rows = [value for batch in plan.batches() for value in batch.column(0).to_pylist()]
    assert rows == ids
    assert len(set(parted.store.opened)) == opened
    assert chosen(parted, text) == ids
    for skip in (1, 3):
        assert chosen(parted, text, skip_rows=skip) == ids[skip:]


def test_rows_that_their_partition_decides_are_sent_as_stored(parted: Any) -> None:
    plan = parted.plan(
        parted.session(filter_predicate="pt = 'a'", required_data_columns=("id", "st"))
    )
    assert [type(piece) for piece in plan.pieces if isinstance(piece, Extent | Computed)] == [
        Extent,
        Extent,
    ]


def test_filters_apply_to_parts_of_batches(parted: Any) -> None:
    session = parted.session(filter_predicate="pt = 'a'")
    assert parted.read(session, offset=1, count=4)["id"].to_pylist() == [1, 2, 3]
    session = parted.session(filter_predicate="id >= 2")
    assert parted.read(session, offset=1, count=2)["id"].to_pylist() == [2]


def test_columns_younger_than_a_segment_are_null_there(shelf: Any) -> None:
    shelf.create(SCHEMA)
    add(shelf, batch(1, 2))
    shelf.add_columns(pa.field("later", pa.int64()))
    assert chosen(shelf, "later is null") == [1, 2]
    plan = shelf.plan(shelf.session(filter_predicate="later = 1"))
    shelf.store.opened.clear()
    assert list(plan.batches()) == []
    assert shelf.store.opened == []


def test_floats_that_are_no_numbers_are_found(shelf: Any) -> None:
    schema = pa.schema([("id", pa.int64()), ("f", pa.float64())])
    shelf.create(schema)
    for number, values in enumerate([[1.0, 1.0], [1.0, float("nan")]]):
        add(shelf, pa.record_batch([pa.array([number, number + 10]), pa.array(values)], schema))
    assert chosen(shelf, "f != 1") == [11]
    assert chosen(shelf, "not f < 5") == [11]
    assert chosen(shelf, "isnan(f)") == [11]
    assert chosen(shelf, "f = 1") == [0, 10, 1]


def test_another_process_understands_the_session(parted: Any) -> None:
    session = parted.session(filter_predicate="pt = 'b' and id <> 5")
    parted.reading = parted.process()
    assert parted.read(session)["id"].to_pylist() == [4, 6, 7]


@pytest.mark.parametrize("text", ["nothing = 1", "other.id = 1", "id", "id = 'x'"])
def test_what_is_not_understood_is_refused_or_passed_over(parted: Any, text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parted.session(filter_predicate=text)
    session = parted.session(filter_predicate=text, filter_predicate_fallback=True)
    assert parted.read(session).num_rows == 8


def test_lists_cost_the_same_for_many_partitions(shelf: Any) -> None:
    """Partitions times values would be 60 million comparisons in Python: minutes."""
    shelf.create(SCHEMA, [("pt", "string")])
    for number in range(30):
        add(shelf, batch(number), (str(number),))
    session = shelf.session(
        filter_predicate=f"pt in ({','.join(repr(str(n)) for n in range(20_000))})"
    )
    assert shelf.read(session).num_rows == 30
    # What depends on the number of partitions is one lookup each.
    filtered = shelf.reading._sessions.find(session.session_id, session_table()).row_filter
    begun = time.process_time()
    filtered.prepare((str(number),) for number in range(3_000))
    many = time.process_time() - begun
    begun = time.process_time()
    filtered.prepare((str(number),) for number in range(100_000, 100_300))
    few = time.process_time() - begun
    assert many < 30 * few + 1


def session_table() -> Any:
    from tests.engine.reading.conftest import TABLE

    return TABLE


@pytest.mark.parametrize(
    "text",
    [
        "id in ({})",
        "id not in ({})",
        "id in ({}) and id > 3000",
        "id in ({}) or id = 7",
        "not (id in ({}) or id < 1000)",
    ],
)
@pytest.mark.parametrize("order", ["sorted", "mixed", "nulls"])
def test_long_lists_choose_what_they_choose_whole(
    shelf: Any, text: str, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch is asked of the values that it can have alone."""
    shelf.create(SCHEMA)
    rows: list[int | None] = list(range(4000))
    if order == "mixed":
        rows = [(n * 1237) % 4000 for n in range(4000)]
    if order == "nulls":
        rows = [n if n % 5 else None for n in range(4000)] + [None] * 500
    for start in range(0, len(rows), 500):
        add(shelf, batch(*rows[start : start + 500]))
    listed = ", ".join(str(n) for n in range(0, 6000, 3))
    whole = chosen(shelf, text.format(listed))
    monkeypatch.setattr("fletching.engine.reading.row_filter.narrowed", lambda left, _: left)
    assert whole == chosen(shelf, text.format(listed))
    assert whole


def test_nothing_is_computed_before_it_is_to_be_sent(
    parted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = SegmentReader.decode

    def noting(reader: SegmentReader, offset: int, end: int, columns: tuple[int, ...]) -> Any:
        decoded.append(offset)
        return decode(reader, offset, end, columns)

    monkeypatch.setattr(SegmentReader, "decode", noting)
    plan = parted.plan(parted.session(filter_predicate="id >= 1"))
    pieces = iter(plan.pieces)
    first = next(piece for piece in pieces if isinstance(piece, Computed))
    assert not decoded
    assert first.length is None
    assert len(first.run()) > 0
    assert len(decoded) == 1
