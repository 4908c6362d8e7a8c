"""Key runs: every entry of a number is found, and damage is an error instead of a missing key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

import fletching
from fletching.client import Table
from fletching.engine.changes import key_runs
from fletching.engine.changes.block_search import Sought
from fletching.engine.changes.key_runs import KeyRun, RunIndexes, open_run, run_at, run_indexes
from fletching.engine.changes.run_encoding import BLOCK_ENTRIES, RunBuilder, RunLayout, encode_run
from fletching.errors import CorruptObjectError

numbers = st.lists(st.integers(0, 30) | st.integers(0, 2**64 - 1), max_size=60)


class InMemory:
    """An object whose bytes are here, whole or, like a bucket's, by ranges."""

    key = "tables/x/run"

    def __init__(self, data: bytes) -> None:
        self.data, self.length, self.asked = data, len(data), 0

    def view(self, start: int, end: int) -> memoryview:
        self.asked += end - start
        return memoryview(self.data)[start:end]


class ByRanges(InMemory):
    def fetch(
        self, ranges: Iterable[tuple[int, int]], *, bytes_per_request: int
    ) -> Iterator[memoryview]:
        assert bytes_per_request
        return (self.view(start, end) for start, end in ranges)


def run_over(stored: Any, most: int, *, merged: bool = False) -> KeyRun:
    return run_at(stored, 0, stored.length, most=most, merged=merged, indexes=run_indexes())


def found_in(run: KeyRun, wanted: Iterable[int]) -> list[tuple[int, int, int | None]]:
    asked = np.array(sorted(set(wanted)), dtype=np.uint64)
    indices, rows, owners = run.find(Sought(asked))
    whose = [None] * len(rows) if owners is None else owners.tolist()
    return sorted(zip(asked[indices].tolist(), rows.tolist(), whose, strict=True))


@settings(deadline=None)
@given(
    stored=numbers,
    wanted=numbers,
    block=st.sampled_from([1, 2, 3, 7, 256]),
    merged=st.booleans(),
    kind=st.sampled_from([InMemory, ByRanges]),
    dense=st.sampled_from([0, 1, 4, 1 << 40]),
    slots=st.booleans(),
)
def test_every_entry_of_a_number_is_found(
    stored: list[int],
    wanted: list[int],
    block: int,
    merged: bool,
    kind: type[InMemory],
    dense: int,
    slots: bool,
) -> None:
    values = np.sort(np.array(stored, dtype=np.uint64))
    rows = np.arange(len(values), dtype=np.uint32)
    owners = rows % np.uint32(3) if merged else None
    builder = RunBuilder(RunLayout(block, merged))
    data, step = bytearray(), 5
    for start in range(0, len(values), step):
        part = slice(start, start + step)
        data += builder.add(values[part], rows[part], None if owners is None else owners[part])
    data += builder.finish()
    assert builder.length == len(data)
    run = run_over(kind(bytes(data)), len(values), merged=merged)
    expected = [
        (int(number), row, row % 3 if merged else None)
        for row, number in enumerate(values.tolist())
        if number in set(wanted)
    ]
    least = 1 if slots else 1 << 20
    with mock.patch.multiple(key_runs, _DENSE=dense, _SLOT_ENTRIES=least, _ENTRIES_AT_ONCE=7):
        for _ in range(2):
            assert found_in(run, wanted) == sorted(expected)
    everything = run.all()
    assert everything.numbers.tolist() == values.tolist()
    assert everything.rows.tolist() == rows.tolist()
    for number in wanted:
        assert run.below(number) == sum(value < number for value in values.tolist())


gaps = st.sampled_from([0, 1, 1, 1, 1, 2, 200, 1 << 14, 1 << 30, 1 << 62])


@settings(deadline=None)
@given(
    first=st.sampled_from([0, 7, (1 << 64) - 40, 1 << 63]),
    steps=st.lists(gaps, min_size=1, max_size=40),
    times=st.sampled_from([1, 9]),
    shuffled=st.booleans(),
    kind=st.sampled_from([InMemory, ByRanges]),
    dense=st.sampled_from([0, 1 << 40]),
)
def test_runs_of_every_width_say_what_was_put_in(
    first: int,
    steps: list[int],
    times: int,
    shuffled: bool,
    kind: type[InMemory],
    dense: int,
) -> None:
    values = np.unique(
        np.array(
            [(first + total) % (1 << 64) for total in np.cumsum(steps * times, dtype=object)],
            dtype=np.uint64,
        )
    )
    rows = np.arange(len(values), dtype=np.uint32)
    if shuffled:
        rows = np.random.default_rng(len(values)).permutation(rows)
    run = run_over(kind(bytes(encode_run(values, rows))), len(values))
    everything = run.all()
    assert everything.numbers.tolist() == values.tolist()
    assert everything.rows.tolist() == rows.tolist()
    wanted = {
        number + by for number in values[:: max(len(values) // 9, 1)].tolist() for by in (0, 1)
    }
    wanted = {number % (1 << 64) for number in wanted}
    expected = [
        (int(number), row, None)
        for number, row in zip(values.tolist(), rows.tolist(), strict=True)
        if number in wanted
    ]
    with mock.patch.object(key_runs, "_DENSE", dense):
        assert found_in(run, wanted) == sorted(expected)


@settings(deadline=None)
@given(stored=numbers, wanted=numbers)
def test_runs_of_the_first_format_are_read(stored: list[int], wanted: list[int]) -> None:
    values = np.sort(np.array(stored, dtype="<u8"))
    body = values.tobytes() + np.arange(len(values), dtype="<u4").tobytes()
    run = run_over(InMemory(body + crc32c(body).to_bytes(4, "little")), len(values))
    expected = [
        (number, row, None) for row, number in enumerate(values.tolist()) if number in set(wanted)
    ]
    assert found_in(run, wanted) == sorted(expected)
    assert run.all().numbers.tolist() == values.tolist()


@pytest.mark.parametrize("step", [1, 3, 1 << 50])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 255, 256, 257, 600])
def test_no_byte_of_a_run_can_change(count: int, step: int) -> None:
    values = np.arange(count, dtype=np.uint64) * np.uint64(step)
    data = bytes(encode_run(values, np.arange(count, dtype=np.uint32)))
    assert len(data) % 8 == 0
    assert len(data) % 12 != 4  # or it would be taken for one of the first format
    few = max(len(data) // 97, 1)
    for offset in [*range(0, len(data), few), *range(max(len(data) - 24, 0), len(data))]:
        damaged = bytearray(data)
        damaged[offset] ^= 0x21
        with pytest.raises(CorruptObjectError):
            run_over(InMemory(bytes(damaged)), count).all()
    for length in range(5, len(data), few):  # four zeros are an empty run of the first format
        with pytest.raises(CorruptObjectError):
            run_over(InMemory(data[:length]), count).all()


def test_of_a_long_run_few_blocks_are_read() -> None:
    count = 200_000
    values = np.arange(count, dtype=np.uint64) * np.uint64(7)
    stored = ByRanges(bytes(encode_run(values, np.arange(count, dtype=np.uint32))))
    run = run_over(stored, count)
    assert stored.asked < count  # the blocks' first numbers and checksums
    stored.asked = 0
    assert found_in(run, [49, 8, 700_000, 1_399_993]) == [
        (7 * row, row, None) for row in (7, 100_000, 199_999)
    ]
    assert stored.asked == 3 * 2 * BLOCK_ENTRIES


def random_numbers(count: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.sort(np.random.default_rng(seed).integers(0, 1 << 64, count, dtype=np.uint64))


def test_of_a_run_without_the_keys_hardly_anything_is_read_again() -> None:
    count = key_runs._SLOT_ENTRIES
    values = random_numbers(count, 1)
    stored: Any = ByRanges(bytes(encode_run(values, np.arange(count, dtype=np.uint32))))
    indexes = run_indexes()

    def run() -> KeyRun:
        return run_at(stored, 0, stored.length, most=count, merged=False, indexes=indexes)

    before = indexes.budget.total
    assert found_in(run(), random_numbers(count, 2).tolist()) == []
    assert 2 * count < indexes.budget.total - before < 3 * count
    stored.asked = 0
    wanted = [*random_numbers(count // 10, 3).tolist(), *values[::5000].tolist()]
    assert [row for _, row, _ in found_in(run(), wanted)] == list(range(0, count, 5000))
    assert stored.asked < stored.length / 4


def test_slots_are_kept_where_there_is_room_and_most_keys_are_absent() -> None:
    count = key_runs._SLOT_ENTRIES
    values = random_numbers(count, 1)
    stored: Any = InMemory(bytes(encode_run(values, np.arange(count, dtype=np.uint32))))
    for room, wanted in ((1 << 10, random_numbers(count, 2)), (1 << 30, values)):
        indexes: RunIndexes = RunIndexes(room, weight=lambda index: index.weight)
        run = run_at(stored, 0, stored.length, most=count, merged=False, indexes=indexes)
        hits = found_in(run, wanted.tolist())
        assert len(hits) == (count if wanted is values else 0)
        (kept,) = [indexes.get((stored.key, None))]
        assert kept is not None
        assert kept.slots is None
    unkept = run_at(stored, 0, stored.length, most=count, merged=False, indexes=None)
    assert found_in(unkept, random_numbers(count, 2).tolist()) == []


@pytest.mark.parametrize("step", [1, 2])
def test_a_part_of_a_run_ends_where_it_is_to(step: int) -> None:
    count = 3 * BLOCK_ENTRIES
    values = np.arange(count, dtype=np.uint64) * np.uint64(step)
    run = run_over(InMemory(bytes(encode_run(values, np.arange(count, dtype=np.uint32)))), count)
    for start, end in (
        (0, 1),
        (BLOCK_ENTRIES - 1, BLOCK_ENTRIES + 2),
        (BLOCK_ENTRIES + 3, count - 5),
    ):
        part = run.between(start, end)
        assert part.rows.tolist() == list(range(start, end))
        assert part.numbers.tolist() == list(range(start * step, end * step, step))


def opened(folder: Path, key: str) -> tuple[Any, Table]:
    client = fletching.connect(folder, create=True)
    schema = pa.schema([pa.field("k", key, nullable=False), ("n", pa.int64())])
    table = client.create_table("t", schema, primary_key=["k"])
    values = [f"key {n}" for n in range(50)] if key == "string" else list(range(50))
    table.append(pa.table({"k": values, "n": [0] * 50}, schema))
    return client, table


def segment_of(table: Table) -> tuple[Any, Any]:
    from fletching.catalog.segment_rows import visible_segments
    from fletching.catalog.table_rows import get_table

    transport: Any = table.channel.transport
    context = transport.engine.context
    with context.database.read() as connection:
        row = get_table(connection, table.full_name)
        (segment,) = visible_segments(connection, row.id, row.version)
    return context, segment


def flip(context: Any, segment: Any, offset: int) -> None:
    # A new file under the old name, as nobody would make it: the mapped one must not change.
    path = Path(context.store.root) / segment.key
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("where", [0.0, 0.3, 0.7, 0.999])
def test_a_damaged_run_is_no_missing_key(tmp_path: Path, where: float) -> None:
    client, table = opened(tmp_path / "data", "int64")
    context, segment = segment_of(table)
    known = run_indexes()
    assert len(open_run(context.store, segment, known).all().numbers) == 50
    flip(context, segment, segment.key_run_offset + int(where * segment.key_run_length))
    for proven in (None, known):
        with pytest.raises(CorruptObjectError, match="checksum"):
            open_run(context.store, segment, proven).all()
    before = table.versions(limit=1)
    with pytest.raises(CorruptObjectError):
        table.upsert({"k": [1], "n": [1]})
    assert table.versions(limit=1) == before
    client.close()


def test_damaged_keys_are_not_other_keys(tmp_path: Path) -> None:
    client, table = opened(tmp_path / "data", "string")
    context, segment = segment_of(table)
    data = (Path(context.store.root) / segment.key).read_bytes()
    flip(context, segment, data.index(b"key 7key 8") + 4)
    with pytest.raises(CorruptObjectError, match="key run"):
        table.upsert({"k": ["key 7"], "n": [1]})
    client.close()
