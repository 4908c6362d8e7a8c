"""The keys of a body: the last operation on each counts, and the runs say where its row is."""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fletching.engine.changes.key_runs import Entries, run_at
from fletching.engine.writing import keyed_rows
from fletching.engine.writing.keyed_rows import KeyedRows, deletes_of
from fletching.errors import InvalidArgumentError, StorageFullError
from fletching.objects.write_behind import WriteBehindQueue

SEED = b"s" * 16


@pytest.mark.parametrize(
    ("values", "deletes"),
    [([85, 68], [False, True]), ([None, 1, 68], [False, False, True]), ([], [])],
)
def test_operations(values: list[int | None], deletes: list[bool]) -> None:
    for kind in (pa.int8(), pa.int64()):
        assert deletes_of(pa.array(values, kind)).tolist() == deletes


@pytest.mark.parametrize(
    "column", [pa.array(["U"]), pa.array([85.0]), pa.array([0]), pa.array([68, 2])]
)
def test_what_is_no_operation(column: pa.Array) -> None:
    with pytest.raises(InvalidArgumentError, match="expected"):
        deletes_of(column)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_keys_do_not_keep_the_messages_alive_that_they_came_in(count: int) -> None:
    """A message is as large as all its columns together."""
    rows = KeyedRows(["k"], SEED)
    before = pa.total_allocated_bytes()
    keys = pa.array([f"k{number}" for number in range(count)], pa.string())
    batch = pa.record_batch({"k": keys, "v": pa.array([b"x" * 500_000] * count, pa.binary())})
    message = pa.ipc.read_record_batch(batch.serialize(), batch.schema)
    rows.add("", [message.column(0)], np.zeros(count, dtype=bool))
    del batch, message
    assert pa.total_allocated_bytes() - before < 100_000
    rows.finish()


def test_keys_of_large_messages_are_mixed_while_others_come() -> None:
    """In the order of their messages: the last of two operations counts whichever thread saw it."""
    queue = WriteBehindQueue()
    alone, behind = KeyedRows(["k"], SEED), KeyedRows(["k"], SEED, queue)
    threads = set()
    for start, size in ((0, 20_000), (19_990, 5), (10_000, 20_000), (0, 3)):
        keys = pa.array([f"key {number}" for number in range(start, start + size)])
        keep = np.zeros(size, dtype=bool)
        alone.add("", [keys], keep)
        behind.add("", [keys], keep, 1 << 20 if size > 5 else 100)
        threads |= {thread.name for thread in threading.enumerate()}
        assert behind.count == alone.count
        assert behind.value_bytes == alone.value_bytes
    assert "fletching-write-behind" in threads
    runs = [bytes(rows.run_maker(deletes=False)("", 0, 40_008)) for rows in (alone, behind)]
    assert runs[0] == runs[1]
    assert alone.superseded("", 0, 40_008) == behind.superseded("", 0, 40_008)
    assert all(thread.name != "fletching-write-behind" for thread in threading.enumerate())


def test_a_write_that_failed_is_the_error_of_the_keys_beside_it() -> None:
    queue = WriteBehindQueue()
    rows = KeyedRows(["k"], SEED, queue)

    def fails() -> None:
        raise StorageFullError("no room", key="k")

    rows.add("", [pa.array(["a"])], np.zeros(1, dtype=bool), 1 << 20)
    queue.run(fails, 1 << 20)
    with pytest.raises(StorageFullError):
        rows.finish()


def test_long_keys_are_held_up_to_some_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed_rows, "KEY_BYTES_AT_ONCE", 1000)
    rows = KeyedRows(["k"], SEED)
    rows.add("", [pa.array(["a" * 400, "b" * 400])], np.zeros(2, dtype=bool))
    assert not rows.is_full
    rows.add("", [pa.array(["c" * 400])], np.zeros(1, dtype=bool))
    assert rows.is_full


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.dictionary(pa.int8(), pa.string())])
def test_of_each_key_the_last_operation_counts(kind: pa.DataType) -> None:
    rng = random.Random(3)
    rows = KeyedRows(["k"], SEED)
    operations: dict[str, list[tuple[Any, bool]]] = {"a": [], "b": []}
    for _ in range(8):
        partition = rng.choice("ab")
        plain = [rng.randrange(9) for _ in range(6)]
        keys = plain if kind == pa.int64() else [f"k{key}" for key in plain]
        deletes = np.array([rng.random() < 0.3 for _ in keys])
        rows.add(partition, [pa.array(keys, kind)], deletes)
        operations[partition] += zip(keys, deletes.tolist(), strict=True)
    rows.finish()
    for partition, done in operations.items():
        last = {key: index for index, (key, _) in enumerate(done)}
        for taken in (False, True):
            mine = [(key, last[key] == index) for index, (key, d) in enumerate(done) if d == taken]
            stays = [number for number, (_, counts) in enumerate(mine) if counts]
            if not taken:
                gone = set(range(len(mine))) - set(stays)
                assert set(rows.superseded(partition, 0, len(mine))) == gone
                middle = len(mine) // 2
                first = set(rows.superseded(partition, 0, middle))
                rest = {middle + n for n in rows.superseded(partition, middle, len(mine))}
                assert first | rest == gone


def test_a_key_is_never_null() -> None:
    rows = KeyedRows(["a", "b"], SEED)
    nothing = np.zeros(2, dtype=bool)
    with pytest.raises(InvalidArgumentError, match="column b has null"):
        rows.add("", [pa.array([1, 2]), pa.array([1, None])], nothing)


@pytest.mark.parametrize("broken", [False, True])
def test_keys_that_all_go_and_ascend(broken: bool) -> None:
    rows = KeyedRows(["k"], SEED)
    for start in (0, 300):
        rows.add("", [pa.array(range(start, start + 300))], np.ones(300, dtype=bool))
    if broken:
        rows.add("", [pa.array([7, 900])], np.array([False, True]))
    run = run_of(rows, 600 + broken, deletes=True)
    expected = {key: key for key in range(600)}
    if broken:
        del expected[7]
        expected[900] = 600
        back = run_of(rows, 1)
        assert (back.numbers.tolist(), back.rows.tolist()) == ([7], [0])
    assert dict(zip(run.numbers.tolist(), run.rows.tolist(), strict=True)) == expected


@pytest.mark.parametrize("broken", ["by an earlier key", "by the same key", "by a delete", "not"])
def test_keys_that_ascend_and_then_do_not(broken: str) -> None:
    rows = KeyedRows(["k"], SEED)
    keep = np.zeros(300, dtype=bool)
    rows.add("", [pa.array(range(300))], keep)
    rows.add("", [pa.array(range(300, 600), pa.int16())], keep)
    more, gone = [600, 601, 602], np.zeros(3, dtype=bool)
    if "key" in broken:
        more[2] = 7 if "earlier" in broken else 599
    gone[2] = "delete" in broken
    rows.add("", [pa.array(more)], gone)
    run = run_of(rows, 603 - int(gone[2]))
    superseded = set(rows.superseded("", 0, 602))
    assert superseded == ({more[2]} if "key" in broken else set())
    stored = dict(zip(run.numbers.tolist(), run.rows.tolist(), strict=True))
    expected = {key: key for key in range(602)} | ({} if gone[2] else {more[2]: 602})
    assert stored == expected
    part = run_of(rows, 400, start=100)
    mine = {key: row - 100 for key, row in expected.items() if 100 <= row < 400}
    assert dict(zip(part.numbers.tolist(), part.rows.tolist(), strict=True)) == mine


def run_of(rows: KeyedRows, end: int, *, start: int = 0, deletes: bool = False) -> Entries:
    data = bytes(rows.run_maker(deletes=deletes)("", start, end))
    stored: Any = Bytes(data)
    run = run_at(stored, 0, len(data), most=end - start, merged=False, indexes=None)
    return run.all()


class Bytes:
    key = "run"

    def __init__(self, data: bytes) -> None:
        self.data, self.length = data, len(data)

    def view(self, start: int, end: int) -> memoryview:
        return memoryview(self.data)[start:end]
