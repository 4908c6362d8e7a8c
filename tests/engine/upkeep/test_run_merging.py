"""Key runs of many segments become few, and say the same; without them everything goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

import fletching
from fletching.catalog.merged_run_rows import MergedRunRow, encode_owners
from fletching.catalog.schema import merged_runs, tables
from fletching.catalog.segment_rows import SegmentRow
from fletching.client import Client, Table
from fletching.engine.changes import key_lookup, key_runs
from fletching.engine.upkeep import compaction, run_merging
from fletching.engine.upkeep.run_merging import MOST_RUNS, runs_to_merge

EXACT = pa.schema([pa.field("id", pa.int64(), nullable=False), ("n", pa.int64())])
HASHED = pa.schema([pa.field("id", pa.string(), nullable=False), ("n", pa.int64())])
SEGMENTS = MOST_RUNS + 3
PER_SEGMENT = 20


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with fletching.connect(tmp_path / "data", create=True) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _segments_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """No segment is written anew because of the rows that it has lost, unless it is asked for."""
    monkeypatch.setattr(compaction, "PURGE_ROWS_SHARE", 2)
    monkeypatch.setattr(compaction, "PURGE_BATCHES_SHARE", 2)


def engine(client: Client) -> Any:
    transport: Any = client.channel.transport  # an embedded one
    return transport.engine


def key(number: int, schema: pa.Schema) -> Any:
    return number if schema is EXACT else f"key {number}"


def rows(numbers: list[int], n: int, schema: pa.Schema) -> pa.Table:
    return pa.table({"id": [key(i, schema) for i in numbers], "n": [n] * len(numbers)}, schema)


def filled(client: Client, schema: pa.Schema) -> tuple[Table, dict[Any, int]]:
    """A table of several segments whose keys lie between each other's, some of them replaced."""
    table = client.create_table("t", schema, primary_key=["id"])
    model = {}
    for number in range(SEGMENTS):
        mine = [PER_SEGMENT * i + number for i in range(PER_SEGMENT)] + [0, 1]
        table.append(rows(mine, number, schema))
        model.update({key(i, schema): number for i in mine})
    return table, model


def merge(client: Client, table: Table) -> int:
    """Merges key runs, and leaves the segments."""
    (report,) = engine(client).compact(table.full_name, min_segments=1000)
    assert report.made == 0
    return int(report.key_runs)


def content(table: Table) -> dict[Any, int]:
    rows = table.scan().to_table()
    listed = rows["id"].to_pylist()
    assert len(set(listed)) == len(listed)
    return dict(zip(listed, rows["n"].to_pylist(), strict=True))


def problems(client: Client) -> list[str]:
    return [f"{item.name}: {item.problems}" for item in engine(client).verify() if item.problems]


def runs_in(client: Client) -> list[Any]:
    with engine(client).context.database.read() as connection:
        return list(connection.execute(select(merged_runs)))


def check(client: Client, table: Table, model: dict[Any, int], schema: pa.Schema, n: int) -> None:
    """Upserts keys that are there and one that is not, and takes one away."""
    there = [0, 1, PER_SEGMENT + 2, 5 * PER_SEGMENT + 3]
    report = table.upsert(rows([*there, 10**6 + n], n, schema))
    assert (report.rows_updated, report.rows_inserted) == (len(there), 1)
    assert table.delete_keys({"id": [key(10**6 + n, schema)]}).rows_deleted == 1
    model.update({key(i, schema): n for i in there})
    assert content(table) == model
    assert problems(client) == []


@pytest.mark.parametrize("schema", [EXACT, HASHED])
def test_keys_are_found_in_a_merged_run(
    client: Client, schema: pa.Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, model = filled(client, schema)
    before = table.versions(limit=1)
    assert merge(client, table) == SEGMENTS
    assert table.versions(limit=1) == before  # a table's versions are of its rows
    assert len(runs_in(client)) == 1
    opened: list[str] = []
    own = key_runs.open_run

    def counted(store: Any, segment: Any, *rest: Any) -> Any:
        opened.append(segment.key)
        return own(store, segment, *rest)

    monkeypatch.setattr(key_lookup, "open_run", counted)
    table.upsert(rows([0, PER_SEGMENT], 77, schema))
    assert opened == []
    model.update({key(i, schema): 77 for i in (0, PER_SEGMENT)})
    check(client, table, model, schema, 100)
    assert merge(client, table) == 0


def test_merged_runs_are_merged_again(client: Client) -> None:
    table, model = filled(client, HASHED)
    merge(client, table)
    (first,) = runs_in(client)
    for number in range(MOST_RUNS):
        table.upsert(rows([number, 50_000 + number], number, HASHED))
        model.update({key(i, HASHED): number for i in (number, 50_000 + number)})
    # A small run is not worth copying a large one for.
    assert merge(client, table) == MOST_RUNS
    assert first in runs_in(client)
    check(client, table, model, HASHED, 101)
    table.append(rows(list(range(100_000, 101_000)), 5, HASHED))
    model.update({key(i, HASHED): 5 for i in range(100_000, 101_000)})
    for number in range(MOST_RUNS):
        table.upsert(rows([number], number, HASHED))
        model[key(number, HASHED)] = number
    merge(client, table)
    assert len(runs_in(client)) == 1
    check(client, table, model, HASHED, 102)
    stored = {info.key for info in engine(client).context.store.list("tables")}
    assert first.key not in stored


def test_runs_of_segments_that_are_gone_go(client: Client) -> None:
    table, model = filled(client, EXACT)
    version = table.versions(limit=1)[0].version
    merge(client, table)
    table.compact(purge=True)  # one segment now, with a run of its own
    assert runs_in(client) == []
    check(client, table, model, EXACT, 103)
    table.restore(version)
    assert merge(client, table) == SEGMENTS
    table.truncate()
    table.append(rows([1], 1, EXACT))
    merge(client, table)
    assert runs_in(client) == []
    assert problems(client) == []


def test_a_merged_run_serves_what_a_restore_brings_back(client: Client) -> None:
    table, model = filled(client, HASHED)
    version = table.versions(limit=1)[0].version
    merge(client, table)
    table.overwrite(rows([1, 2, 3], 9, HASHED))
    table.restore(version)
    check(client, table, model, HASHED, 104)


@pytest.mark.parametrize("harm", ["gone", "cut", "changed", "owners"])
def test_without_a_merged_run_everything_goes_on(client: Client, harm: str) -> None:
    table, model = filled(client, HASHED)
    merge(client, table)
    (row,) = runs_in(client)
    context = engine(client).context
    path = Path(context.store.root) / row.key
    data = bytearray(path.read_bytes())
    path.unlink()
    if harm == "cut":
        path.write_bytes(data[:-8])
    elif harm == "changed":
        data[100] ^= 1
        path.write_bytes(data)
    elif harm == "owners":
        path.write_bytes(data)
        with context.database.write() as connection:
            connection.execute(merged_runs.update().values(owners=b"nothing"))
    assert len(problems(client)) == 1
    # A table that is opened anew has not proven anything yet.
    context.run_indexes.__init__(1 << 20)
    there = [0, 1, PER_SEGMENT + 2]
    assert table.upsert(rows(there, 50, HASHED)).rows_updated == len(there)
    model.update({key(i, HASHED): 50 for i in there})
    assert content(table) == model
    engine(client).compact(table.full_name, min_segments=1000, purge=True)
    assert row.key not in {each.key for each in runs_in(client)}
    check(client, table, model, HASHED, 105)


def test_a_run_that_does_not_say_what_the_segments_say_is_found(client: Client) -> None:
    table, _ = filled(client, HASHED)
    merge(client, table)
    (row,) = runs_in(client)
    context = engine(client).context
    keys = MergedRunRow(0, row.key, row.partition, row.entries, row.bytes, row.owners).owner_keys()
    keys[0], keys[1] = keys[1], keys[0]
    with context.database.write() as connection:
        connection.execute(merged_runs.update().values(owners=encode_owners(keys)))
    assert any("own key runs" in problem for problem in problems(client))


def test_partitions_have_runs_of_their_own(client: Client) -> None:
    table = client.create_table(
        "t", "id BIGINT NOT NULL, n BIGINT", partition_by={"p": "STRING"}, primary_key=["id"]
    )
    for number in range(SEGMENTS):
        table.append({"id": [number + 100, number + 10], "n": [number] * 2, "p": ["a", "b"]})
    assert merge(client, table) == 2 * SEGMENTS
    assert len(runs_in(client)) == 2
    report = table.upsert({"id": [100, 100, 10], "n": [7, 8, 9], "p": ["a", "b", "b"]})
    assert (report.rows_updated, report.rows_inserted) == (2, 1)
    assert problems(client) == []


def test_a_dropped_table_leaves_no_run(client: Client) -> None:
    table, _ = filled(client, EXACT)
    merge(client, table)
    client.drop_table("t")
    opened = engine(client)
    with opened.context.database.write() as connection:
        connection.execute(tables.update().values(dropped_at=1.0))
    opened.collect()
    assert [info.key for info in opened.context.store.list("tables")] == []
    with opened.context.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(merged_runs)).scalar() == 0


def test_slices_end_where_they_may(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are merged a part at a time, also where one number fills several."""
    monkeypatch.setattr(run_merging, "_SLICE_ENTRIES", 1)
    monkeypatch.setattr(run_merging, "BLOCK_ENTRIES", 4)
    table, model = filled(client, HASHED)
    merge(client, table)
    check(client, table, model, HASHED, 106)


def a_segment(number: int, size: int) -> SegmentRow:
    return SegmentRow(
        number, f"s{number}", "[]", size, 0, b"", b"", 1, "", 1, number, 0, None, 0, 0
    )


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 10_000), min_size=1, max_size=120), every=st.integers(1, 12))
def test_runs_stay_few_and_entries_are_copied_seldom(sizes: list[int], every: int) -> None:
    """However large segments come, with upkeep after so many of them."""
    there: list[SegmentRow] = []
    merged: list[MergedRunRow] = []
    copied = total = 0
    for number, size in enumerate(sizes):
        there.append(a_segment(number, size))
        total += size
        if number % every:
            continue
        for plan in runs_to_merge(there, merged):
            gone = {row.id for row in plan.merged}
            keys = [segment.key for segment in plan.segments]
            for row in plan.merged:
                keys += row.owner_keys()
            entries = sum(there[int(key[1:])].rows for key in keys)
            copied += entries
            merged = [row for row in merged if row.id not in gone]
            merged.append(MergedRunRow(number, f"m{number}", "[]", entries, 0, encode_owners(keys)))
        covered = {key for row in merged for key in row.owner_keys()}
        assert len(there) - len(covered) + len(merged) <= MOST_RUNS
        assert sum(len(row.owner_keys()) for row in merged) == len(covered)
    assert copied <= total * 16
