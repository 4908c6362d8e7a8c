"""Tables with a key: of each key the last operation of a commit wins, and the row that was there goes."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyroaring import BitMap
from tests.engine.changes.conftest import MakeTable

import fletching
from fletching.catalog.write_stream_rows import NewSegment
from fletching.client import Table
from fletching.engine.changes import key_runs, keyed_merge, run_encoding
from fletching.engine.changes.key_runs import KeyRun
from fletching.engine.changes.key_slots import KeySlots, slots_of
from fletching.engine.changes.keyed_merge import _are_in
from fletching.engine.writing import keyed_rows
from fletching.engine.writing.keyed_rows import KeyedRows

NUMBERS = pa.schema([pa.field("k", pa.int64(), nullable=False), ("v", pa.int64())])
TEXTS = pa.schema([pa.field("k", pa.string(), nullable=False), ("v", pa.int64())])


def content(table: Table) -> dict[Any, int]:
    rows = table.scan().to_table()
    pairs = list(zip(rows["k"].to_pylist(), rows["v"].to_pylist(), strict=True))
    assert len(dict(pairs)) == len(pairs), "a key twice"
    assert table.count_rows() == len(pairs)
    return dict(pairs)


@pytest.mark.parametrize("few", [False, True], ids=["all at once", "few at a time"])
@pytest.mark.parametrize("schema", [NUMBERS, TEXTS], ids=["numbers", "texts"])
def test_a_random_history_leaves_the_last_of_each_key(
    new_table: MakeTable, schema: pa.Schema, few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if few:
        monkeypatch.setattr(keyed_rows, "KEYS_AT_ONCE", 3)
        monkeypatch.setattr(keyed_merge, "ENTRIES_AT_ONCE", 4)
        monkeypatch.setattr(run_encoding, "BLOCK_ENTRIES", 2)
    rng = random.Random(5)
    spelt = str if schema is TEXTS else int
    table = new_table(schema, primary_key=["k"])
    model: dict[Any, int] = {}
    for step in range(12):
        keys = [spelt(rng.randrange(30)) for _ in range(rng.randrange(1, 20))]
        if step % 4 == 3:
            table.delete(f"k IN ({', '.join(repr(key) for key in keys)})")
            for key in keys:
                model.pop(key, None)
        else:
            values = [rng.randrange(1000) for _ in keys]
            rows = pa.table({"k": keys, "v": values}, schema)
            table.append(pa.Table.from_batches(rows.to_batches(max_chunksize=2 if few else None)))
            model.update(zip(keys, values, strict=True))
    assert content(table) == model


def test_what_is_known_of_absent_keys_holds_whatever_becomes_of_their_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes change a table in turn, and either remembers of earlier runs which keys are not in them."""
    monkeypatch.setattr(key_runs, "_SLOT_ENTRIES", 1)
    made: list[int] = []

    def counted(parts: Iterable[Any], entries: int, last: int) -> KeySlots:
        made.append(entries)
        return slots_of(parts, entries, last)

    monkeypatch.setattr(key_runs, "slots_of", counted)
    rng = random.Random(8)
    with (
        fletching.connect(tmp_path / "data", create=True) as client,
        fletching.connect(tmp_path / "data") as second,
    ):
        tables = [client.create_table("t", TEXTS, primary_key=["k"]), second.table("t")]
        model: dict[str, int] = {}
        states: dict[int, dict[str, int]] = {}
        new = iter(range(1, 1 << 20))
        for step in range(40):
            table = tables[rng.randrange(2)]
            match step % 8:
                case 2:
                    table.compact(purge=step % 16 == 2)
                case 4:
                    gone = rng.sample(sorted(model), 9)
                    table.delete(f"k IN ({', '.join(map(repr, gone))})")
                    for key in gone:
                        del model[key]
                case 6:
                    version = rng.choice(sorted(states))
                    table.restore(version)
                    model = dict(states[version])
                case _:
                    # Keys that were never there, some that are, and some that were and may be no more.
                    known = sorted(set(model).union(*states.values()))
                    keys = [f"{next(new)}" for _ in range(60)] + rng.sample(known, len(known) // 40)
                    values = [rng.randrange(1000) for _ in keys]
                    rng.shuffle(keys)
                    table.upsert(pa.table({"k": keys, "v": values}, TEXTS))
                    model.update(zip(keys, values, strict=True))
            states[table.versions(limit=1)[0].version] = dict(model)
            assert content(tables[rng.randrange(2)].reload()) == model
    assert len(made) > 10


@pytest.mark.parametrize("few", [False, True])
def test_slots_of_a_write_are_known_to_the_next(
    new_table: MakeTable, few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_runs, "_SLOT_ENTRIES", 1)
    if few:
        monkeypatch.setattr(keyed_merge, "ENTRIES_AT_ONCE", 40)
        monkeypatch.setattr(run_encoding, "BLOCK_ENTRIES", 2)
    made: list[int] = []
    kept: list[int] = []
    keep = KeyRun.keep_slots

    def counted(parts: Iterable[Any], entries: int, last: int) -> KeySlots:
        made.append(entries)
        return slots_of(parts, entries, last)

    def compared(self: KeyRun, parts: Any) -> None:
        keep(self, parts)
        kept.append(self.count)
        numbers = self.all().numbers
        expected = slots_of([numbers], len(numbers), int(numbers[-1]))
        slots = self._index.slots
        assert slots is not None
        assert (slots.shift, slots.taken) == (expected.shift, expected.taken)

    monkeypatch.setattr(key_runs, "slots_of", counted)
    monkeypatch.setattr(KeyRun, "keep_slots", compared)
    table = new_table(TEXTS, primary_key=["k"])
    for count in (100, 101, 102, 103):
        keys = [f"{count} {number}" for number in range(count)]
        table.append(pa.table({"k": keys, "v": range(count)}, TEXTS))
    assert made == [100]
    assert kept == [101, 102, 103]
    assert len(content(table)) == 406


def test_a_body_of_many_rows_holds_the_keys_of_some_at_a_time(
    new_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    finish = KeyedRows.finish

    def finished(rows: KeyedRows) -> None:
        held.append(rows.count)
        finish(rows)

    monkeypatch.setattr(KeyedRows, "finish", finished)
    monkeypatch.setattr(keyed_rows, "KEYS_AT_ONCE", 20)
    table = new_table(NUMBERS, primary_key=["k"])
    keys = [number % 55 for number in range(100)]
    rows = pa.table({"k": keys, "v": range(100)}, NUMBERS)
    table.append(pa.Table.from_batches(rows.to_batches(max_chunksize=10)))
    assert max(held) == 20
    assert content(table) == dict(zip(keys, range(100), strict=True))


def test_the_rows_that_are_replaced_count_as_updates(new_table: MakeTable) -> None:
    table = new_table(
        NUMBERS, pa.table({"k": [1, 2, 3], "v": [0, 0, 0]}, NUMBERS), primary_key=["k"]
    )
    table.append(pa.table({"k": [2, 3, 4], "v": [1, 1, 1]}, NUMBERS))
    newest = table.versions()[0]
    assert (newest.rows_inserted, newest.rows_updated, newest.rows_deleted) == (1, 2, 0)
    assert content(table) == {1: 0, 2: 1, 3: 1, 4: 1}


def test_keys_are_unique_in_their_partition(new_table: MakeTable) -> None:
    table = new_table(NUMBERS, primary_key=["k"], partition_by=["pt"])
    for pt, value in (("a", 1), ("b", 2), ("a", 3)):
        table.append(pa.table({"k": [7], "v": [value]}, NUMBERS), partition=f"pt={pt}")
    rows = table.scan().to_table()
    assert sorted(zip(rows["pt"].to_pylist(), rows["v"].to_pylist(), strict=True)) == [
        ("a", 3),
        ("b", 2),
    ]


@pytest.mark.parametrize(
    ("rows", "bitmap", "expected"),
    [
        ([], [1], []),
        ([1, 2], [], [False, False]),
        ([5, 1, 9], [1, 5, 7], [True, True, False]),
        ([0, 4_294_967_295], [4_294_967_295], [False, True]),
        ([3, 3], [3], [True, True]),
    ],
)
def test_rows_that_are_in_a_bitmap(
    rows: list[int], bitmap: list[int], expected: list[bool]
) -> None:
    assert _are_in(np.array(rows, np.uint32), BitMap(bitmap)).tolist() == expected


def test_a_segment_of_no_version_is_read_like_any_other() -> None:
    segment = NewSegment(
        key="k", partition="[]", schema_version=3, rows=4, length=50, crc32c=6, batch_index=b"b",
        dictionary_index=b"d", codecs="lz4", statistics=b"s", key_run_offset=8, key_run_length=9,
    )  # fmt: skip
    row = segment.as_row(5)
    assert (row.id, row.position, row.added_version) == (5, 5, 0)
    shared = set(row._fields) & set(NewSegment.__dataclass_fields__)
    assert {name: getattr(row, name) for name in shared} == {
        name: getattr(segment, name) for name in shared
    }
    assert len(shared) >= 12
