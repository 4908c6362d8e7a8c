"""Retention, compaction and verification: what goes, what stays, what is named as damaged."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import select
from tests.engine.conftest import in_a_folder, on_both_databases

from fletching import faultpoints
from fletching.catalog import collecting
from fletching.catalog.leases import acquire_lease
from fletching.catalog.schema import leases
from fletching.catalog.writer_rows import known_writers
from fletching.engine.generations import Generations
from fletching.engine.upkeep.retention import retain_seconds
from fletching.errors import (
    ConflictError,
    ExpiredSessionError,
    FletchingError,
    NotFoundError,
    ServiceUnavailableError,
)
from fletching.objects.local import LocalStore
from fletching.objects.remote_store import RemoteStore
from fletching.protocol.messages.admin import AddColumns, DropTable
from fletching.protocol.messages.requests import GetReadSession
from fletching.types import TableName

SCHEMA = pa.schema([("id", pa.int64())])
DAY = 86_400.0


pytestmark = on_both_databases


def ids(*values: int) -> Any:
    return pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)


def kinds(report: Any) -> dict[str, int]:
    return dict(report.counts())


def test_nothing_to_do(house: Any) -> None:
    house.create(SCHEMA)
    house.append(ids(1))
    assert house.engine.collect().collected == ()
    assert house.engine.collect(dry_run=True).collected == ()


def test_a_dry_run_tells_and_does_nothing(house: Any, clock: Any) -> None:
    house.create(SCHEMA)
    house.append(ids(1))
    house.append(ids(2), overwrite=True)
    reader = house.open_read()
    clock.advance(3 * DAY)
    before = house.object_keys()
    report = house.engine.collect(dry_run=True)
    assert report.dry_run
    assert kinds(report) == {"removed segment": 1, "read session": 1, "write session": 2}
    assert report.bytes > 0
    assert house.object_keys() == before
    done = house.engine.collect()
    assert done.collected == report.collected
    assert len(house.object_keys()) == 1
    with pytest.raises(NotFoundError):
        house.read_session(reader)


def test_expired_sessions_go_with_what_they_staged(house: Any, clock: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    house.write(ids(1), session)
    clock.advance(DAY + 1)
    assert kinds(house.engine.collect()) == {"write session": 1, "staged segment": 1}
    assert house.object_keys() == set()
    with pytest.raises(ExpiredSessionError):
        house.commit(session)
    clock.advance(DAY + 1)
    assert kinds(house.engine.collect()) == {"write session": 1}  # now its row as well
    with pytest.raises(NotFoundError):
        house.commit(session)


def test_a_snapshot_keeps_what_it_needs(open_house: Any, clock: Any) -> None:
    house = open_house(removed_seconds=10.0, retain_seconds=10.0, read_session_seconds=1000.0)
    house.create(SCHEMA)
    house.append(ids(1))
    reader = house.open_read()
    house.append(ids(2), overwrite=True)
    house.append(ids(3), overwrite=True)
    clock.advance(11)
    # the segment of the second version is in no snapshot; that of the first is in the reader's
    assert kinds(house.engine.collect()) == {"removed segment": 1}
    assert house.read_session(reader)["id"].to_pylist() == [1]
    clock.advance(1000)
    assert kinds(house.engine.collect()) == {"read session": 1, "removed segment": 1}
    assert house.read()["id"].to_pylist() == [3]


def test_a_dropped_table_goes_whole(open_house: Any, clock: Any) -> None:
    house = open_house(removed_seconds=10.0, retain_seconds=10.0)
    house.create(SCHEMA, ["pt"])
    house.append(ids(1), "pt=a")
    session = house.session("pt=b")
    house.stream(session)
    house.write(ids(2), session)
    house.open_read()
    house.engine.call(DropTable(table=house.table))
    house.create(SCHEMA)
    house.append(ids(3))
    assert kinds(house.engine.collect()) == {}
    clock.advance(11)
    report = house.engine.collect()
    assert kinds(report)["dropped table"] == 1
    assert len(house.object_keys()) == 1
    assert house.read()["id"].to_pylist() == [3]
    assert [item for item in house.engine.verify() if item.problems] == []


@pytest.mark.parametrize("when", ["while it is kept", "once it is forgotten"])
def test_a_folder_goes_with_its_table(open_house: Any, clock: Any, when: str) -> None:
    """Also where somebody publishes in it late, whose rows are refused."""
    house = open_house(removed_seconds=10.0, retain_seconds=10.0)
    store = house.engine.context.store
    if not isinstance(store, LocalStore):
        return
    house.create(SCHEMA)
    house.append(ids(1))
    kept = house.create(SCHEMA, table=TableName("demo", "kept"))
    (folder,) = store.folders("tables")
    late = store.create(f"tables/{folder}/{store.writer}-late.arrow")
    with store.create(f"tables/{kept.table_id}/{store.writer}-aborted.arrow") as sink:
        sink.commit()
    house.engine.call(DropTable(table=house.table))
    house.engine.context.delete_objects([sink.key])
    house.engine.collect()
    assert sorted(store.folders("tables")) == sorted([folder, kept.table_id])
    clock.advance(11)
    if when == "while it is kept":
        late.commit()
    house.engine.collect(dry_run=True)
    assert sorted(store.folders("tables")) == sorted([folder, kept.table_id])
    house.engine.collect()
    if when == "once it is forgotten":
        assert store.folders("tables") == [kept.table_id]
        late.commit()
    house.engine.collect()
    assert sorted(store.folders("tables")) == sorted([folder, kept.table_id])
    house.engine.context.delete_objects([late.key])
    house.engine.collect()
    assert store.folders("tables") == [kept.table_id]


def test_a_folder_stays_while_the_catalog_is_an_old_copy(
    open_house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = open_house()
    store = house.engine.context.store
    if not isinstance(store, LocalStore):
        return
    with store.create("tables/unknown/x") as sink:
        sink.commit()
    store.delete("tables/unknown/x")
    monkeypatch.setattr(Generations, "conflict", lambda _: "the catalog is an old copy")
    assert house.engine.collect().refused
    assert store.folders("tables") == ["unknown"]
    monkeypatch.undo()
    assert not house.engine.collect().refused
    assert store.folders("tables") == []


def test_idle_streams_are_forgotten(open_house: Any, clock: Any) -> None:
    house = open_house(stream_seconds=100.0)
    house.create(SCHEMA)
    token = house.stream("default", exactly_once=True).access_token
    house.write(ids(1), "default", row_offset=0, access_token=token, retry_trace_id="x")
    clock.advance(99)
    assert kinds(house.engine.collect()) == {}
    clock.advance(2)
    assert kinds(house.engine.collect()) == {"idle stream": 1}
    with pytest.raises(NotFoundError):
        house.write(ids(2), "default", row_offset=1, access_token=token)
    assert house.read()["id"].to_pylist() == [1]


def put(store: Any, key: str) -> str:
    sink = store.create(key)
    sink.write(b"orphan")
    sink.commit()
    return key


def die(store: Any) -> None:
    """What the end of a process does to its locks."""
    os.close(store._registration)
    store._registration = None


@in_a_folder
def test_orphans_go_when_old_or_when_their_writer_is_dead(open_house: Any, clock: Any) -> None:
    house = open_house(orphan_seconds=100.0)
    info = house.create(SCHEMA)
    house.append(ids(1))
    store = house.engine.context.store
    known = house.object_keys()
    own = put(store, f"tables/{info.table_id}/{store.writer}-x-0.arrow")
    put(store, f"tables/{info.table_id}/other-x-0.arrow")
    clock.now = max(item.modified for item in store.list()) + 99
    assert kinds(house.engine.collect()) == {}
    clock.advance(2)
    # this writer's own may be about to be told to the catalog, however old
    assert kinds(house.engine.collect(dry_run=True)) == {"orphan": 1}
    assert kinds(house.engine.collect()) == {"orphan": 1}
    assert house.object_keys() == known | {own}


# --- an object store, which does not know who lives ---


@pytest.fixture
def cloud() -> Callable[[], Any]:
    """Openings of one store in memory, as several servers have them."""
    obstore = pytest.importorskip("obstore")
    bucket = obstore.store.MemoryStore()
    return lambda: RemoteStore(bucket)


def test_orphans_of_unknown_writers_go_when_known_for_long_enough(
    open_house: Any, clock: Any, cloud: Any
) -> None:
    house = open_house(orphan_seconds=100.0, store=cloud())
    info = house.create(SCHEMA)
    house.append(ids(1))
    store = house.engine.context.store
    known = house.object_keys()
    own = put(store, f"tables/{info.table_id}/{store.writer}-x-0.arrow")
    put(store, f"tables/{info.table_id}/somebody-x-0.arrow")
    clock.advance(50_000)  # what the store says of the objects' age does not matter
    house.engine.context.presence.renew()
    assert kinds(house.engine.collect(dry_run=True)) == {}
    assert "orphan" not in kinds(house.engine.collect())  # comes upon it
    clock.advance(99)
    house.engine.context.presence.renew()
    assert kinds(house.engine.collect()) == {}
    clock.advance(1)
    assert kinds(house.engine.collect(dry_run=True)) == {"orphan": 1}
    assert kinds(house.engine.collect()) == {"orphan": 1}
    assert house.object_keys() == known | {own}


def test_an_orphan_that_is_gone_is_not_remembered(open_house: Any, clock: Any, cloud: Any) -> None:
    house = open_house(orphan_seconds=100.0, store=cloud())
    info = house.create(SCHEMA)
    key = put(house.engine.context.store, f"tables/{info.table_id}/somebody-x-0.arrow")
    house.engine.collect()
    house.engine.context.store.delete(key)
    house.engine.collect()  # gone: a new object of this name would be young
    put(house.engine.context.store, key)
    clock.advance(1000)
    assert kinds(house.engine.collect()) == {}
    assert key in house.object_keys()


def test_a_silent_writer_cannot_record_what_was_collected(
    open_house: Any, clock: Any, cloud: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was stopped for a minute in mid-write: refused, and written again."""
    house = open_house(store=cloud())
    house.create(SCHEMA)
    house.append(ids(1))
    other = open_house(store=cloud())
    session = house.session()
    house.stream(session)
    before = house.object_keys()
    reports: list[dict[str, int]] = []

    def stopped(point: str) -> None:
        if point == "write.staging" and not reports:
            assert before < other.object_keys()
            assert kinds(other.engine.collect()) == {}
            clock.advance(61)
            reports.append(kinds(other.engine.collect()))

    with monkeypatch.context() as patch:
        patch.setattr(faultpoints, "reach", stopped)
        with pytest.raises(ServiceUnavailableError, match="write it again"):
            house.write(ids(2), session)
    assert reports == [{"orphan": 1}]
    assert house.object_keys() == before
    with pytest.raises(ServiceUnavailableError, match="write it again"):
        house.write(ids(2), session)  # it has not noticed yet
    house.engine.context.presence.renew()
    house.write(ids(2), session)
    house.close(session)
    house.commit(session)
    assert house.read()["id"].to_pylist() == [1, 2]
    assert [item for item in house.engine.verify() if item.problems] == []


def test_a_writer_that_ends_is_not_waited_for(open_house: Any, clock: Any, cloud: Any) -> None:
    house = open_house(store=cloud())
    house.create(SCHEMA)
    house.append(ids(1))
    database = house.engine.context.database
    with database.read() as connection:
        assert known_writers(connection) == {house.engine.context.store.writer}
    other = open_house(store=cloud())
    assert other.read()["id"].to_pylist() == [1]
    with database.read() as connection:  # who only reads makes no row
        assert known_writers(connection) == {house.engine.context.store.writer}
    house.engine.close()
    with other.engine.context.database.read() as connection:
        assert known_writers(connection) == frozenset()


@in_a_folder
def test_nothing_of_a_living_writer_goes_whatever_the_clocks_say(
    open_house: Any, clock: Any
) -> None:
    house = open_house(orphan_seconds=10.0)
    info = house.create(SCHEMA)
    store = house.engine.context.store
    key = put(store, f"tables/{info.table_id}/{store.writer}-x-0.arrow")
    ahead = open_house(orphan_seconds=10.0)
    for _ in range(3):
        clock.advance(1_000_000)
        assert "orphan" not in kinds(ahead.engine.collect())
    assert key in ahead.object_keys()
    house.engine.close()
    assert kinds(ahead.engine.collect()) == {"orphan": 1}


@in_a_folder
def test_an_unlikely_share_of_orphans_is_left_alone(open_house: Any, clock: Any) -> None:
    house = open_house(orphan_seconds=10.0)
    info = house.create(SCHEMA)
    house.append(ids(1))
    store = house.engine.context.store
    keys = {put(store, f"tables/{info.table_id}/somebody-x-{n}.arrow") for n in range(17)}
    for _ in range(2):
        clock.advance(100)
        report = house.engine.collect()
        assert kinds(report) == {}
        assert "17 of 18 objects" in report.refused
        assert "--force" in report.refused
    assert keys <= house.object_keys()
    assert house.engine.collect(dry_run=True).refused
    assert kinds(house.engine.collect(force=True)) == {"orphan": 17}
    assert house.read()["id"].to_pylist() == [1]


@in_a_folder
def test_the_fuse_holds_for_the_dead_as_well(open_house: Any) -> None:
    """A catalog restored from an old copy: most objects of a killed server are unknown to it."""
    house = open_house()
    info = house.create(SCHEMA)
    store = house.engine.context.store
    keys = {put(store, f"tables/{info.table_id}/{store.writer}-x-{n}.arrow") for n in range(17)}
    die(store)
    other = open_house()
    assert keys == other.object_keys()
    assert "17 of 17" in other.engine.collect().refused
    assert kinds(other.engine.collect(force=True)) == {"orphan": 17}


def test_one_process_collects_at_a_time(house: Any, clock: Any) -> None:
    database = house.engine.context.database
    with database.write() as connection:
        assert acquire_lease(connection, "retention", "somebody", now=clock(), seconds=60)
    assert "another process" in house.engine.collect().skipped
    clock.advance(61)
    assert house.engine.collect().skipped == ""


@in_a_folder
def test_the_leases_of_the_dead_are_free(open_house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    house = open_house()
    house.create(SCHEMA)
    house.append(ids(1))  # makes the writer known
    database, store = house.engine.context.database, house.engine.context.store
    with database.write() as connection:
        assert acquire_lease(connection, "retention", store.writer, now=house.clock(), seconds=600)
    other = open_house()
    assert other.engine.collect().skipped
    die(store)
    assert not other.engine.collect().skipped


def test_a_lease_that_passed_on_ends_the_work(
    house: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector that slept through its lease does nothing after that."""
    house.create(SCHEMA)
    house.append(ids(1))
    house.append(ids(2), overwrite=True)
    clock.advance(3 * DAY)
    database = house.engine.context.database
    expire = collecting.expire_read_sessions

    def sleep(connection: Any, **options: Any) -> Any:
        assert acquire_lease(connection, "retention", "somebody", now=clock() + 1000, seconds=60)
        return expire(connection, **options)

    monkeypatch.setattr(collecting, "expire_read_sessions", sleep)
    with pytest.raises(ConflictError, match="lease of retention"):
        house.engine.collect()
    assert len(house.object_keys()) == 2
    with database.read() as connection:
        holder = select(leases.c.holder).where(leases.c.name == "retention")
        assert connection.execute(holder).scalar_one() == "somebody"


def test_an_object_that_cannot_be_deleted_is_an_orphan_later(
    house: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fletching.errors import StorageError

    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    house.write(ids(1), session)

    def fail(key: str) -> None:
        raise StorageError("busy", key=key)

    with monkeypatch.context() as patch:
        patch.setattr(house.engine.context.store, "delete", fail)
        house.abort(session)
    assert len(house.object_keys()) == 1
    house.engine.close()
    assert house.object_keys() != set()


# --- compaction ---


def test_small_segments_become_one_and_the_rows_stay(house: Any, clock: Any) -> None:
    house.create(SCHEMA, ["pt"])
    for number, name in itertools.product(range(10), "ab"):
        house.append(ids(number, 100 + number), f"pt={name}")
    reader = house.open_read()
    before = house.read()
    old = house.object_keys()
    (report,) = house.engine.compact()
    assert (report.merged, report.made) == (20, 2)
    assert house.read().equals(before)
    assert house.read_session(reader).equals(before)
    info = house.describe()
    assert (info.rows, info.segments) == (40, 2)
    assert house.engine.compact() == []
    assert [item for item in house.engine.verify() if item.problems] == []
    clock.advance(3 * DAY)
    house.engine.collect()
    assert len(house.object_keys()) == 2
    assert not house.object_keys() & old
    assert house.read().equals(before)


def test_messages_are_copied_as_they_are(house: Any) -> None:
    house.create(SCHEMA)
    bodies = []
    for number, codec in enumerate(["zstd", None, "lz4"]):
        body = house.stream_bytes([ids(*range(number, 100))], SCHEMA, compression=codec)
        session = house.session()
        house.stream(session)
        house.send(body, session)
        house.close(session)
        house.commit(session)
        bodies.append(body)
    house.engine.compact(house.table, min_segments=2)
    store = house.engine.context.store
    (merged,) = [key for key in house.object_keys() if key.endswith("-c.arrow")]
    stored = store.open(merged)
    data = bytes(stored.read(0, stored.length))
    from fletching import ipc

    for body in bodies:
        message = list(ipc.messages(body))[1]
        assert b"".join(map(bytes, message.frame())) in data
    assert pa.ipc.open_file(data).read_all().num_rows == 100 + 99 + 98


def test_what_is_not_merged(open_house: Any) -> None:
    from fletching.ipc import lowlevel

    house = open_house(compact_segment_bytes=2000, compact_target_bytes=2500)
    house.create(SCHEMA)
    house.append(ids(1))
    house.append(ids(*range(1000)))  # large: a run ends at it
    house.append(ids(2))
    assert house.engine.compact(house.table, min_segments=2)[0].merged == 0
    added = pa.schema([("x", pa.int64())])
    house.engine.call(AddColumns(table=house.table, arrow_schema=lowlevel.encode_schema(added)))
    house.append(ids(3))  # another schema version
    assert house.engine.compact(house.table, min_segments=2)[0].merged == 0
    for number in range(5):
        house.append(ids(number))
    report = house.engine.compact(house.table, min_segments=2)[0]
    assert report.made >= 2  # the target size cuts runs
    before = house.read()["id"].to_pylist()
    assert before == [1, *range(1000), 2, 3, *range(5)]


@in_a_folder
def test_damage_is_not_given_a_new_checksum(house: Any, tmp_path: Path) -> None:
    house.create(SCHEMA)
    for number in range(3):
        house.append(ids(number))
    damage(house, tmp_path, -200)
    (report,) = house.engine.compact(house.table, min_segments=2)
    assert report.merged == 0
    assert len(report.damaged) == 1


# --- verification ---


def path_of(house: Any, key: str) -> Path:
    return Path(house.engine.context.store.root) / key


def damage(house: Any, tmp_path: Path, position: int) -> str:
    key = min(house.object_keys())
    path = path_of(house, key)
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))
    return str(key)


def problems(house: Any) -> dict[str, str]:
    return {item.name: "; ".join(item.problems) for item in house.engine.verify() if item.problems}


@in_a_folder
def test_every_flipped_byte_is_found_and_named(house: Any, tmp_path: Path) -> None:
    house.create(SCHEMA)
    house.append([ids(1, 2), ids(3)])
    (key,) = house.object_keys()
    length = path_of(house, key).stat().st_size
    assert problems(house) == {}
    for position in (*range(0, length, 5), length - 1):
        damage(house, tmp_path, position)
        assert key in problems(house), position
        damage(house, tmp_path, position)
    assert problems(house) == {}


@in_a_folder
def test_the_damaged_message_is_named(house: Any, tmp_path: Path) -> None:
    house.create(SCHEMA)
    house.append([ids(1, 2), ids(3)])
    (key,) = house.object_keys()
    from fletching import ipc

    data = path_of(house, key).read_bytes()
    third = list(ipc.messages(data))[2]
    damage(house, tmp_path, third.end - 1)
    assert f"message at {third.offset}" in problems(house)[key]


@in_a_folder
def test_missing_cut_and_unreadable_objects(house: Any) -> None:
    house.create(SCHEMA)
    for number in range(3):
        house.append(ids(number))
    missing, cut, fine = sorted(house.object_keys())
    path_of(house, missing).unlink()
    os.truncate(path_of(house, cut), 100)
    messages = problems(house)
    assert set(messages) == {missing, cut}
    assert "missing" in messages[missing]
    assert "100 bytes" in messages[cut]
    verification = house.engine.verify()
    assert verification.total_objects == 3
    assert fine not in messages


def test_wrong_totals_are_named(house: Any) -> None:
    house.create(SCHEMA, ["pt"])
    house.append(ids(1), "pt=a")
    with house.engine.context.database.write() as connection:
        connection.exec_driver_sql("UPDATE tables SET rows = 7")
        connection.exec_driver_sql("UPDATE partitions SET bytes = 1")
    messages = problems(house)
    assert any(name.startswith("table demo.default.t") for name in messages)
    assert any(name.startswith("partition ") for name in messages)


@in_a_folder
def test_staged_segments_are_proven_too(house: Any, tmp_path: Path) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    house.write(ids(1), session)
    key = damage(house, tmp_path, 300)
    assert key in problems(house)


def test_an_object_collected_meanwhile_is_no_damage(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    house.write(ids(1), session)
    verification = house.engine.verify()
    house.abort(session)
    assert [item.problems for item in verification] == [()]


@in_a_folder
def test_reads_of_damage_are_errors_not_values(house: Any) -> None:
    house.create(SCHEMA)
    house.append(ids(1))
    (key,) = house.object_keys()
    os.truncate(path_of(house, key), 100)
    with pytest.raises(FletchingError):
        house.read()


def test_a_segment_removed_in_mid_merge_keeps_the_merge_out(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fletching.engine.upkeep import segment_copy

    house.create(SCHEMA)
    for number in range(3):
        house.append(ids(number))
    real: Any = segment_copy.SegmentCopy.segment
    overwritten: list[str] = []

    def copy(*arguments: Any) -> int:
        rows: int = real(*arguments)
        if not overwritten:
            overwritten.append(house.append(ids(9), overwrite=True))
        return rows

    monkeypatch.setattr(segment_copy.SegmentCopy, "segment", copy)
    (report,) = house.engine.compact(house.table, min_segments=2)
    assert report.merged == 0
    assert house.read()["id"].to_pylist() == [9]
    assert not [key for key in house.object_keys() if key.endswith("-c.arrow")]
    assert [item for item in house.engine.verify() if item.problems] == []


def test_a_compaction_that_fails_leaves_nothing(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fletching.engine.upkeep import compaction
    from fletching.errors import StorageError

    house.create(SCHEMA)
    for number in range(3):
        house.append(ids(number))
    before = house.object_keys()

    def fail(*_: object, **__: object) -> bool:
        raise StorageError("the catalog failed")

    with monkeypatch.context() as patch:
        patch.setattr(compaction, "replace_segments", fail)
        with pytest.raises(StorageError):
            house.engine.compact(house.table, min_segments=2)
    assert house.object_keys() == before
    with house.engine.context.database.write() as connection:
        name = f"compact-{house.describe().table_id}"
        assert acquire_lease(connection, name, "else", now=house.clock(), seconds=60)
    assert "another process" in house.engine.compact(house.table, min_segments=2)[0].skipped


def test_an_expired_reader_may_come_back_for_a_while(open_house: Any, clock: Any) -> None:
    house = open_house(removed_seconds=100.0, read_session_seconds=1000.0)
    house.create(SCHEMA)
    house.append(ids(1))
    reader = house.open_read()
    clock.advance(1050)
    assert "read session" not in kinds(house.engine.collect())
    with pytest.raises(ExpiredSessionError):
        house.read_session(reader)
    refresh = GetReadSession(table=house.table, session_id=reader, refresh=True)
    house.engine.call(refresh)
    assert house.read_session(reader)["id"].to_pylist() == [1]
    clock.advance(1100)
    assert kinds(house.engine.collect())["read session"] == 1
    with pytest.raises(NotFoundError):
        house.engine.call(refresh)


def test_partitions_go_when_their_life_is_over(house: Any, clock: Any) -> None:
    from fletching.protocol.messages.admin import ListPartitions
    from fletching.protocol.messages.changes import AlterTable, ListVersions, RestoreTable

    engine = house.engine
    house.create(SCHEMA, ["day"])
    table = house.table

    def partitions() -> list[str]:
        page = engine.call(ListPartitions(table=table))
        return [str(each.partition) for each in page.partitions]

    house.append(ids(1), "day=a")
    clock.advance(2 * DAY)
    house.append(ids(2), "day=b")
    assert engine.collect().counts().get("expired partition") is None
    engine.call(AlterTable(table=table, lifecycle_days=3))
    clock.advance(1.5 * DAY)
    report = engine.collect(dry_run=True)
    assert kinds(report)["expired partition"] == 1
    assert partitions() == ["day=a", "day=b"]
    assert kinds(engine.collect())["expired partition"] == 1
    assert partitions() == ["day=b"]
    newest, before = engine.call(ListVersions(table=table)).versions[:2]
    assert (newest.operation, newest.rows_deleted) == ("lifecycle", 1)
    engine.call(RestoreTable(table=table, version=before.version))
    assert partitions() == ["day=a", "day=b"]
    assert engine.collect().counts().get("expired partition") is None  # it came back just now
    engine.compact(table, purge=True)
    clock.advance(4 * DAY)
    assert kinds(engine.collect())["expired partition"] == 2
    assert partitions() == []
    assert [item for item in engine.verify() if item.problems] == []


def test_uploads_that_nobody_will_complete_are_ended(open_house: Any) -> None:
    obstore = pytest.importorskip("obstore")
    from fletching.objects.remote_store import RemoteStore
    from fletching.objects.s3_uploads import UnfinishedUpload

    day = 86_400.0

    class Store(RemoteStore):
        uploads: list[UnfinishedUpload]

        def unfinished_uploads(self) -> list[UnfinishedUpload]:
            return self.uploads

        def end_upload(self, upload: UnfinishedUpload) -> None:
            self.uploads.remove(upload)

    store = Store(obstore.store.MemoryStore())
    house = open_house(store=store)
    house.create(pa.schema([("id", pa.int64())]))
    house.append(pa.table({"id": [1]}))
    mine = f"tables/t/{store.writer}-1"
    young, old = UnfinishedUpload(mine, "a", 2 * day), UnfinishedUpload(mine, "b", 8 * day)
    fresh = UnfinishedUpload("tables/t/dead-1", "c", 60.0)
    dead = UnfinishedUpload("tables/t/dead-2", "d", 7200.0)
    store.uploads = [young, old, fresh, dead]
    report = house.engine.collect(dry_run=True)
    assert report.counts()["unfinished upload"] == 2
    assert store.uploads == [young, old, fresh, dead]
    assert house.engine.collect().counts()["unfinished upload"] == 2
    assert store.uploads == [young, fresh]


def test_how_long_versions_stay_is_said_in_hours(catalog: str) -> None:
    context: Any = SimpleNamespace(settings=SimpleNamespace(retain_seconds=7.0))
    for hours, seconds in (("0.5", 1800.0), ("24", 86_400.0), ("0", 0.0), ("-1", 7.0), ("x", 7.0)):
        properties = json.dumps({"acid.data.retain.hours": hours})
        assert retain_seconds(context, properties) == seconds
    assert retain_seconds(context, "{}") == 7.0
