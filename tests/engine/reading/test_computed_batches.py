"""Cuts: within the limits, nothing lost, and exactly as long as announced."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching import ipc
from fletching.engine.reading.computed_batches import (
    AHEAD_BATCHES,
    HELPERS,
    BatchComputation,
    Cut,
    computed_ahead,
    cut_rows,
    encode_cuts,
    encoded_length,
    group_cuts,
    worked_ahead,
)
from fletching.ipc import lowlevel


def batch(sizes: list[int | None]) -> pa.RecordBatch:
    return pa.record_batch(
        {
            "n": pa.array(range(len(sizes)), pa.int32()),
            "t": pa.array([None if size is None else "x" * size for size in sizes], pa.string()),
            "l": pa.array([[1] * ((size or 0) % 4) for size in sizes], pa.list_(pa.int8())),
        }
    )


_sizes = st.lists(st.one_of(st.none(), st.integers(0, 300)), max_size=60)
_maybe = st.one_of(st.none(), st.integers(1, 70))


def decoded(messages: bytes, schema: pa.Schema) -> list[pa.RecordBatch]:
    stream = lowlevel.encode_schema(schema) + messages + lowlevel.END_OF_STREAM
    with pa.ipc.open_stream(stream) as reader:
        return list(reader)


@settings(deadline=None)
@given(
    sizes=_sizes,
    start=st.integers(0, 9),
    max_rows=_maybe,
    max_bytes=st.one_of(st.none(), st.integers(1, 4000)),
)
def test_cuts_are_the_rows_within_the_limits(
    sizes: list[int | None], start: int, max_rows: int | None, max_bytes: int | None
) -> None:
    whole = batch(sizes).slice(start)
    cuts = cut_rows(whole, max_rows=max_rows, max_bytes=max_bytes)
    edge = 0
    for cut in cuts:
        assert cut.start == edge < cut.end
        edge = cut.end
        assert max_rows is None or cut.end - cut.start <= max_rows
        assert max_bytes is None or cut.length <= max_bytes or cut.end - cut.start == 1
    assert edge == whole.num_rows
    encoded = b"".join(map(bytes, encode_cuts(whole, cuts)))
    assert len(encoded) == encoded_length(cuts)
    batches = decoded(encoded, whole.schema)
    assert [b.num_rows for b in batches] == [cut.end - cut.start for cut in cuts]
    assert pa.Table.from_batches(batches, whole.schema) == pa.Table.from_batches([whole])


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_another_codec_is_in_the_messages(codec: str) -> None:
    whole = batch([200] * 100)
    encoded = b"".join(map(bytes, encode_cuts(whole, cut_rows(whole, max_rows=40), codec=codec)))
    for message in ipc.messages(encoded):
        assert message.record_batch().compression == codec
    assert pa.Table.from_batches(decoded(encoded, whole.schema)).combine_chunks() == (
        pa.Table.from_batches([whole]).combine_chunks()
    )


def test_cuts_of_uneven_rows_take_part_in_the_same_encoding() -> None:
    whole = batch([10, 20, 30, 40, 50])
    cuts = [
        Cut(a, b, pa.ipc.get_record_batch_size(whole.slice(a, b - a)))
        for a, b in ((0, 1), (1, 4), (4, 5))
    ]
    encoded = b"".join(map(bytes, encode_cuts(whole, cuts)))
    assert [b.num_rows for b in decoded(encoded, whole.schema)] == [1, 3, 1]


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 50)), room=st.integers(1, 100))
def test_groups_are_the_cuts_in_order(lengths: list[int], room: int) -> None:
    cuts = [Cut(number, number + 1, length) for number, length in enumerate(lengths)]
    groups = list(group_cuts(cuts, room))
    assert [cut for group in groups for cut in group] == cuts
    assert all(encoded_length(group) <= room or len(group) == 1 for group in groups)


def test_a_batch_of_no_columns_can_be_cut(shelf: Any) -> None:
    none = pa.record_batch({"a": [1, 2, 3]}).select([])
    cuts = cut_rows(none, max_rows=2)
    encoded = b"".join(map(bytes, encode_cuts(none, cuts)))
    assert len(encoded) == encoded_length(cuts)


@settings(deadline=None)
@given(rows=st.integers(0, 3000), step=st.sampled_from([1, 7, 64, 500, 512, 1024]))
def test_lengths_are_exact_for_columns_of_fixed_width(rows: int, step: int) -> None:
    whole = pa.record_batch(
        {
            "i": pa.array(range(rows), pa.int64()),
            "s": pa.array([n % 100 for n in range(rows)], pa.int8()),
            "b": pa.array([n % 3 == 0 for n in range(rows)], pa.bool_()),
        }
    )
    cuts = cut_rows(whole, max_rows=step)
    encoded = b"".join(map(bytes, encode_cuts(whole, cuts)))
    assert len(encoded) == encoded_length(cuts)
    assert pa.Table.from_batches(decoded(encoded, whole.schema), whole.schema) == (
        pa.Table.from_batches([whole])
    )
    exact = [
        pa.ipc.get_record_batch_size(whole.slice(cut.start, cut.end - cut.start)) for cut in cuts
    ]
    assert [cut.length for cut in cuts] == exact


def test_a_large_batch_is_handed_over_and_not_copied() -> None:
    whole = pa.record_batch({"n": pa.array(range(200_000), pa.int64())})
    pieces = encode_cuts(whole, cut_rows(whole))
    length = sum(memoryview(piece).nbytes for piece in pieces)
    assert length == encoded_length(cut_rows(whole))
    address = whole.column(0).buffers()[1].address
    assert address in [pa.py_buffer(piece).address for piece in pieces]
    (back,) = decoded(b"".join(map(bytes, pieces)), whole.schema)
    assert back == whole


class Batches:
    """A computation that says which thread worked on it, and may fail."""

    def __init__(self, number: int, threads: dict[int, str], *, fails: bool = False) -> None:
        self.number = number
        self.threads = threads
        self.fails = fails

    def batches(self) -> Iterator[pa.RecordBatch]:
        self.threads[self.number] = threading.current_thread().name
        if self.fails:
            raise OSError("damaged")
        for part in range(2):
            yield pa.record_batch({"n": [2 * self.number + part]})


def ahead(computations: list[Batches]) -> Generator[int, None, None]:
    for each in computed_ahead(cast("list[BatchComputation]", computations)):
        yield from each["n"].to_pylist()


def test_batches_computed_ahead_come_in_order_and_the_first_is_not_waited_for() -> None:
    threads: dict[int, str] = {}
    numbers = ahead([Batches(number, threads) for number in range(9)])
    assert next(numbers) == 0
    assert threads == {0: threading.current_thread().name}
    assert list(numbers) == list(range(1, 18))
    helpers = {name for name in threads.values() if name.startswith("fletching-compute")}
    assert helpers >= set(threads.values()) - {threading.current_thread().name}


def test_what_is_computed_ahead_is_bounded_and_ends_with_its_reader() -> None:
    threads: dict[int, str] = {}
    numbers = ahead([Batches(number, threads) for number in range(100)])
    for _ in range(6):
        next(numbers)
    numbers.close()
    assert max(threads) <= 2 + AHEAD_BATCHES
    before = dict(threads)
    assert not [t for t in threading.enumerate() if t.name.startswith("fletching-compute")]
    assert threads == before


def test_a_reader_that_would_wait_works() -> None:
    worked = threading.Event()

    def works() -> bool:
        worked.set()
        return True

    # As many as there are threads: the last task is for whoever is left.
    made = worked_ahead([works, *[lambda: worked.wait(30)] * HELPERS, works])
    assert next(made)
    worked.clear()
    assert all(made)


def test_an_error_comes_where_its_batch_would_be() -> None:
    threads: dict[int, str] = {}
    numbers = ahead([Batches(number, threads, fails=number == 4) for number in range(9)])
    result: list[int] = []
    with pytest.raises(OSError, match="damaged"):
        # Even a reader that stops at the error has what came before it.
        result.extend(numbers)
    assert result == list(range(8))
