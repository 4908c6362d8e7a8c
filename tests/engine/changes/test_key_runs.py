"""Key runs: every entry of a number is found, and damage is an error instead of a missing key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fletching
from fletching.client import Table
from fletching.engine.changes.key_runs import KeyRun, encode_run, proven_runs, read_run
from fletching.errors import CorruptObjectError

numbers = st.lists(st.integers(0, 30) | st.integers(0, 2**64 - 1), max_size=60)


@settings(deadline=None)
@given(stored=numbers, wanted=numbers)
def test_every_entry_of_a_number_is_found(stored: list[int], wanted: list[int]) -> None:
    run = encode_run(np.array(stored, dtype=np.uint64), np.arange(len(stored), dtype=np.uint32))
    assert len(run) == 12 * len(stored) + 4
    count = len(stored)
    entries = KeyRun(
        np.frombuffer(run[: 8 * count], dtype="<u8"),
        np.frombuffer(run[8 * count : 12 * count], dtype="<u4"),
    )
    asked = sorted(set(wanted))
    places, rows = entries.find(np.array(asked, dtype=np.uint64))
    found = sorted(zip((asked[place] for place in places.tolist()), rows.tolist(), strict=True))
    expected = [(number, row) for row, number in enumerate(stored) if number in set(asked)]
    assert found == sorted(expected)


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
    known = proven_runs()
    assert len(read_run(context.store, segment, known).numbers) == 50
    flip(context, segment, segment.key_run_offset + int(where * segment.key_run_length))
    for proven in (None, known):
        with pytest.raises(CorruptObjectError, match="checksum"):
            read_run(context.store, segment, proven)
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
