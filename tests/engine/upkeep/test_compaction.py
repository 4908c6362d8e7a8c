"""Compaction leaves deleted rows out, folds deletions, and proves what it made."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text, update

import fletching
from fletching import ipc
from fletching.catalog.leases import acquire_lease, release_lease
from fletching.catalog.schema import deletions, segments
from fletching.client import Client, Table
from fletching.engine.upkeep import compaction
from fletching.engine.upkeep.compaction import Compactor, parts_worth_merging
from fletching.engine.upkeep.held_lease import hold_lease
from fletching.engine.upkeep.run_merging import MOST_RUNS
from fletching.errors import ConflictError, CorruptObjectError
from fletching.ipc.metadata import MessageType
from fletching.types import TableName

SCHEMA = pa.schema([("id", pa.int64()), ("v", pa.string())])


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with fletching.connect(tmp_path / "data", create=True) as opened:
        yield opened


def engine(client: Client) -> Any:
    transport: Any = client.channel.transport  # an embedded one
    return transport.engine


def batches(*sizes: int) -> pa.Table:
    made, start = [], 0
    for size in sizes:
        numbers = list(range(start, start + size))
        made.append(
            pa.record_batch(
                {"id": numbers, "v": [f"v{number}" for number in numbers]}, schema=SCHEMA
            )
        )
        start += size
    return pa.Table.from_batches(made)


def problems(client: Client) -> list[Any]:
    return [item for item in engine(client).verify() if item.problems]


def ids(table: Table) -> list[int]:
    listed: list[int] = table.scan().to_table()["id"].to_pylist()
    return listed


def messages(client: Client, table: Table) -> list[bytes]:
    """The record batch messages of the table's newest segments."""
    with engine(client).context.database.read() as connection:
        rows = connection.execute(
            segments.select()
            .where(segments.c.table_id == table.info.table_id, segments.c.removed_version.is_(None))
            .order_by(segments.c.position)
        ).all()
    frames = []
    for row in rows:
        stored = engine(client).context.store.open(row.key)
        frames += [
            b"".join(bytes(piece) for piece in message.frame())
            for message in ipc.messages(stored.view(0, stored.length))
            if message.type is MessageType.RECORD_BATCH
        ]
    return frames


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_whole_batches_are_copied_and_others_written_anew(
    client: Client, compression: Literal["lz4"] | None
) -> None:
    table = client.create_table("t", SCHEMA).with_options(compression=compression)
    with table.write_session() as session, session.writer() as writer:
        for batch in batches(100, 100, 100, 100).to_batches():
            writer.write(batch)
            writer.flush()
    before = messages(client, table)
    table.delete("id IN (100, 150, 199)")
    table.delete("id >= 300")
    table.compact(purge=True)
    after = messages(client, table)
    assert (len(before), len(after)) == (4, 3)
    assert [after[0], after[2]] == [before[0], before[2]]
    assert after[1] != before[1]
    left = [n for n in range(300) if n not in {100, 150, 199}]
    assert ids(table) == left
    assert ids(table.as_of(1)) == list(range(400))
    assert table.delete("id = 101").rows_deleted == 1
    assert problems(client) == []


def test_dictionaries_are_purged(client: Client) -> None:
    schema = pa.schema([("id", pa.int64()), ("d", pa.dictionary(pa.int32(), pa.string()))])
    table = client.create_table("t", schema)
    words = pa.array(["a", "b", "a", "c"]).dictionary_encode()
    table.append(pa.table({"id": [1, 2, 3, 4], "d": words}, schema))
    table.delete("id = 2")
    table.compact(purge=True)
    assert table.scan().to_table().to_pydict() == {"id": [1, 3, 4], "d": ["a", "a", "c"]}
    assert problems(client) == []


def test_many_deletions_of_a_segment_are_folded(client: Client) -> None:
    table = client.create_table("t", SCHEMA)
    table.append(batches(*[10] * 100))
    for number in range(10):
        table.delete(f"id = {number * 7}")
    table.compact()
    (newest,) = table.versions(limit=1)
    assert (newest.operation, newest.data_change) == ("fold", False)
    assert table.count_rows() == len(ids(table)) == 990
    assert ids(table.as_of(3)) == [n for n in range(1000) if n not in {0, 7}]
    assert [each.rows_deleted for each in table.versions()[1:11]] == [1] * 10
    assert sorted(table.changes(1).to_table()["id"].to_pylist()) == list(range(0, 70, 7))
    table.restore(3)
    assert table.count_rows() == 998
    assert problems(client) == []


def test_deletions_that_went_meanwhile_are_not_folded(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = client.create_table("t", SCHEMA)
    table.append(batches(*[10] * 100))
    for number in range(10):
        table.delete(f"id = {number * 7}")
    fold = Compactor._fold

    def late(self: Any, *arguments: Any) -> None:
        table.restore(3)
        fold(self, *arguments)

    monkeypatch.setattr(Compactor, "_fold", late)
    table.compact()
    assert table.versions(limit=1)[0].operation == "restore"
    assert ids(table) == [n for n in range(1000) if n not in {0, 7}]
    assert problems(client) == []


def merging(client: Client) -> Table:
    table = client.create_table("t", SCHEMA)
    for _ in range(4):
        table.append(batches(10))
    return table


def folding(client: Client) -> Table:
    table = client.create_table("t", SCHEMA)
    table.append(batches(*[10] * 100))
    for number in range(10):
        table.delete(f"id = {number * 7}")
    return table


def joining_key_runs(client: Client) -> Table:
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("v", pa.string())])
    table = client.create_table("t", schema, primary_key=["id"])
    for number in range(MOST_RUNS + 1):
        table.upsert(pa.table({"id": [number], "v": ["new"]}, schema))
    return table


@pytest.mark.parametrize("work", [merging, folding, joining_key_runs])
def test_who_has_lost_its_lease_publishes_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch, work: Any
) -> None:
    """Neither a segment, nor a deletion, nor a key run: somebody else is at the same by now."""
    table = work(client)
    before = table.versions(limit=1)[0], sorted(ids(table)), objects(client)
    least = 1000 if work is joining_key_runs else 2
    began = []

    @contextlib.contextmanager
    def passed_on(context: Any, name: str) -> Iterator[Any]:
        with hold_lease(context, name) as lease:
            with context.database.write() as connection:
                late = context.clock() + 1000
                assert acquire_lease(connection, name, "somebody", now=late, seconds=60)
            began.append(name)
            yield lease

    monkeypatch.setattr(compaction, "hold_lease", passed_on)
    with pytest.raises(ConflictError, match="passed to another process"):
        engine(client).compact(table.full_name, min_segments=least)
    assert (table.versions(limit=1)[0], sorted(ids(table)), objects(client)) == before
    assert problems(client) == []
    # What holds the lease may do it, and then it is done.
    monkeypatch.undo()
    (name,) = began
    with engine(client).context.database.write() as connection:
        release_lease(connection, name, "somebody")
    (report,) = engine(client).compact(table.full_name, min_segments=least)
    assert not report.skipped
    assert (sorted(ids(table)), problems(client)) == (before[1], [])
    assert (table.versions(limit=1)[0], objects(client)) != (before[0], before[2])


def objects(client: Client) -> set[str]:
    """The keys of what the store has."""
    return {each.key for each in engine(client).context.store.list("")}


def test_large_segments_are_purged_by_their_share(client: Client) -> None:
    table = client.create_table("t", SCHEMA)
    table.append(batches(100))
    table.delete("id = 1")
    table.compact()
    assert table.versions(limit=1)[0].operation == "compact"  # its only batch was affected
    assert problems(client) == []


def damage(client: Client, key: str) -> None:
    path = engine(client).context.store.root / key
    data = bytearray(path.read_bytes())
    data[-300] ^= 1
    path.write_bytes(data)


def folder_has(client: Client, data: bytes) -> list[str]:
    """Objects, and columns of segments in the catalog, in which some bytes are."""
    context = engine(client).context
    results = [
        each.key
        for each in context.store.list("")
        if data in (context.store.root / each.key).read_bytes()
    ]
    with context.database.read() as connection:
        for row in connection.execute(segments.select()).all():
            kept = (row.statistics or b"") + (row.zone_bounds or b"")
            results += [row.key] * (data in kept)
    return results


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_nothing_is_left_of_rows_that_are_purged(
    client: Client, compression: Literal["zstd"] | None
) -> None:
    """Not beside the rows that are left, not in a dictionary, and not as a bound of a column."""
    table = client.create_table(
        "t",
        pa.schema(
            [
                ("n", pa.int64()),
                ("v", pa.string()),
                ("d", pa.dictionary(pa.int32(), pa.string())),
            ]
        ),
    ).with_options(compression=compression)
    secret = "the name of a person"
    for start in (0, 100):
        names = [f"{secret} {start + n}" if n > 7 else f"n{n}" for n in range(10)]
        numbers = [123456700 + n if n > 7 else n for n in range(10)]
        table.append({"n": numbers, "v": names, "d": names})
    words = [secret * 20, "x" * 600]
    other = client.create_table("long", pa.schema([("v", pa.string())]))
    other.append({"v": words})
    assert compression or folder_has(client, secret.encode())
    assert folder_has(client, b"1234567")
    table.delete("n > 100")
    other.delete("v like 'the%'")
    for each in (table, other):
        each.compact(purge=True)
        each.expire_versions(dt.timedelta(0))
    engine(client).collect()
    assert folder_has(client, secret.encode()) == []
    assert folder_has(client, b"1234567") == []
    assert table.scan(filter="n >= 0").to_table().num_rows == 16
    assert table.scan(filter="n > 7").to_table().num_rows == 0
    assert problems(client) == []


def test_keys_of_purged_rows_are_in_no_run(client: Client) -> None:
    """Of whole numbers an entry of a run is the key."""
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("v", pa.string())])
    table = client.create_table("t", schema, primary_key=["id"])
    secret = 0x5A5158_4A4D4152
    for number in range(MOST_RUNS + 2):
        keys = [secret] if number == 3 else [number]
        table.upsert(pa.table({"id": keys, "v": ["new"]}, schema))
    (report,) = engine(client).compact(table.full_name, min_segments=1000)
    assert report.key_runs
    needle = secret.to_bytes(8, "little")[:7]
    table.delete_keys({"id": [secret]})
    assert folder_has(client, needle)
    engine(client).compact(table.full_name, min_segments=1000, purge=True)
    table.expire_versions(dt.timedelta(0))
    engine(client).collect()
    assert folder_has(client, needle) == []
    assert problems(client) == []


def test_a_purge_tells_of_what_it_left(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged segment keeps its deleted rows, but no other's: and it is never a success."""
    table = client.create_table("t", SCHEMA)
    for number in range(3):
        table.append(batches(10))
        table.delete(f"id = {number} AND v <> 'gone'")
    keys = [row.key for row in engine(client).operations.segments(table.full_name)]
    damage(client, keys[1])
    with pytest.raises(CorruptObjectError, match=f"1 segment .* still has deleted rows.*{keys[1]}"):
        table.compact(purge=True)
    with pytest.raises(fletching.FletchingError, match="still has deleted rows"):
        client.sql("alter table t compact major")
    (report,) = engine(client).compact(purge=True)
    assert report.damaged == report.unpurged == (keys[1],)
    assert any("still has rows" in problem for problem in report.problems)
    last = engine(client).operations.last_run("compaction")
    assert last.problem_count == 2
    left = [row.key for row in engine(client).operations.segments(table.full_name)]
    assert set(left) & set(keys) == {keys[1]}
    assert caplog.records == []
    table.compact()
    assert any("bytes are not" in record.message for record in caplog.records)


def test_a_purge_waits_for_others_and_then_says_so(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(compaction, "PURGE_SECONDS", 0.05)
    table = client.create_table("t", SCHEMA)
    table.append(batches(10))
    table.delete("id = 1")
    context = engine(client).context
    name = f"compact-{table.info.table_id}"
    with context.database.write() as connection:
        assert acquire_lease(connection, name, "another", now=context.clock(), seconds=60)
    with pytest.raises(ConflictError, match="another process is compacting"):
        table.compact(purge=True)
    monkeypatch.setattr(compaction, "PURGE_SECONDS", 60.0)

    def given_back(_: float) -> None:
        with context.database.write() as connection:
            release_lease(connection, name, "another")

    monkeypatch.setattr("fletching.engine.upkeep.compaction.time.sleep", given_back)
    table.compact(purge=True)
    (row,) = engine(client).operations.segments(table.full_name)
    assert row.rows == 9
    # Nothing more is there to be purged, whoever compacts the table meanwhile.
    with context.database.write() as connection:
        assert acquire_lease(connection, name, "another", now=context.clock(), seconds=60)
    table.compact(purge=True)


def test_a_purge_of_what_changes_meanwhile(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that another compaction has replaced, and one that is restored under its hands."""
    monkeypatch.setattr(compaction, "PAUSE_SECONDS", 0.0)
    table = client.create_table("t", SCHEMA)
    for _ in range(3):
        table.append(batches(10))
    table.delete("id = 1")
    merge = Compactor._merge
    calls: list[int] = []

    def late(self: Any, *arguments: Any) -> int:
        calls.append(1)
        if len(calls) == 1:
            table.restore(3)
            table.delete("id = 2")
        return merge(self, *arguments)

    monkeypatch.setattr(Compactor, "_merge", late)
    table.compact(purge=True)
    rows = engine(client).operations.segments(table.full_name)
    assert sum(row.rows for row in rows) == 27
    assert problems(client) == []


def test_a_purge_of_what_is_too_large(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MAX_UNIFIED_BYTES", 10)
    schema = pa.schema([("id", pa.int64()), ("d", pa.dictionary(pa.int32(), pa.string()))])
    table = client.create_table("t", schema)
    words = pa.array(["a", "b", "a", "c"]).dictionary_encode()
    table.append(pa.table({"id": [1, 2, 3, 4], "d": words}, schema))
    table.delete("id = 2")
    with pytest.raises(ConflictError, match="still has deleted rows"):
        table.compact(purge=True)


def test_verify_finds_what_is_wrong_with_deletions(client: Client) -> None:
    table = client.create_table("t", SCHEMA)
    table.append(batches(100))
    table.delete("id < 3")
    assert problems(client) == []
    database = engine(client).context.database
    for change in (
        {"rows": 4},
        {"crc32c": 1},
        {"segment_id": 999},
        {"batch_counts": b"\0" * 8},
        {"vector": b"nothing"},
    ):
        with database.write() as connection:
            kept = connection.execute(deletions.select()).one()
            connection.execute(update(deletions).values(**change))
        assert problems(client), change
        with database.write() as connection:
            connection.execute(update(deletions).values(**kept._mapping))
    assert problems(client) == []


def test_verify_finds_a_wrong_key_run(client: Client) -> None:
    table = client.create_table("t", SCHEMA, primary_key=["id"])
    table.append(batches(100))
    assert problems(client) == []
    with engine(client).context.database.write() as connection:
        connection.execute(text("UPDATE segments SET key_run_offset = 8"))
    assert problems(client) != []


@pytest.mark.parametrize("statement", [
    "UPDATE tables SET rows = rows + 1",
    "UPDATE tables SET segments = 7, bytes = 1",
    "UPDATE table_versions SET rows = 0",
    "UPDATE partitions SET rows = rows - 1 WHERE partition LIKE '%a%'",
])  # fmt: skip
def test_totals_can_be_counted_anew(client: Client, statement: str) -> None:
    table = client.create_table("t", "id BIGINT", partition_by={"p": "STRING"})
    table.append({"id": [1, 2, 3], "p": ["a", "a", "b"]})
    table.delete("id = 1")
    assert engine(client).recount() == []
    with engine(client).context.database.write() as connection:
        connection.execute(text(statement))
    assert problems(client) != []
    (repaired,) = engine(client).recount()
    assert repaired.name.endswith("t")
    assert problems(client) == []
    assert table.reload().count_rows() == 2
    assert table.append({"id": [4], "p": ["b"]}).rows_inserted == 1
    assert problems(client) == []


@pytest.mark.parametrize(
    ("lengths", "parts"),
    [
        ([], []),
        ([5, 5, 5], []),
        ([5, 5, 5, 5], [range(4)]),
        ([12, 4, 4, 4], [range(4)]),
        ([13, 4, 4, 4], []),
        ([99, 4, 4, 4, 4], [range(1, 5)]),
        ([4, 4, 4, 4, 99, 5, 5, 5, 5], [range(4), range(5, 9)]),
        ([999, 99, 4, 4, 4, 4, 1], [range(2, 7)]),
        # Each as large as what was there before it: all of it is written once.
        ([1, 1, 2, 4, 8, 16], [range(6)]),
    ],
)
def test_a_segment_larger_than_its_neighbours_together_is_left_as_it_is(
    lengths: list[int], parts: list[range]
) -> None:
    assert list(parts_worth_merging(lengths, 4)) == parts


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=400), st.integers(2, 8), st.integers(1, 12)
)
def test_what_upkeep_writes_grows_with_the_logarithm_of_what_was_appended(
    appended: list[int], least: int, every: int
) -> None:
    there: list[int] = []
    written = 0
    for number, length in enumerate(appended, 1):
        there.append(length)
        if number % every:
            continue
        while parts := list(parts_worth_merging(there, least)):
            for part in reversed(parts):
                merged = sum(there[part.start : part.stop])
                assert merged >= 2 * max(there[part.start : part.stop])
                written += merged
                there[part.start : part.stop] = [merged]
    assert sum(there) == sum(appended)
    doublings = (sum(appended) // min(appended)).bit_length()
    assert written <= doublings * sum(appended)


def test_upkeep_does_not_write_a_large_segment_anew_for_each_few_rows(tmp_path: Path) -> None:
    with fletching.connect(tmp_path / "data", create=True) as client:
        table = client.create_table("t", SCHEMA)
        table.append(batches(20_000))
        name = TableName(client.project, "t")
        written, least = 0, engine(client).context.settings.compact_min_segments
        for _ in range(4 * least):
            table.append(batches(10))
            written += sum(report.bytes for report in engine(client).compact())
        there = engine(client).operations.segments(name)
        large = max(segment.length for segment in there)
        assert large > 200_000 > written
        # Who asks for it by himself has all of them in one.
        engine(client).compact(min_segments=2)
        assert len(engine(client).operations.segments(name)) == 1
        assert ids(table) == list(range(20_000)) + 4 * least * list(range(10))
