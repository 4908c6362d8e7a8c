"""What is forgotten is what nobody can reach any more, and nothing else."""

from __future__ import annotations

import pytest
from pyroaring import BitMap
from sqlalchemy import Connection, insert, select
from tests.catalog.conftest import MakeSegment, MakeTable

from fletching.catalog.blob_rows import NewPack, insert_pack
from fletching.catalog.collecting import (
    ForgottenObject,
    drop_abandoned_tables,
    drop_dropped_tables,
    drop_tables_of,
    expire_read_sessions,
    expire_write_sessions,
    forget_changes,
    forget_ended_sessions,
    forget_idle_streams,
    forget_orphans,
    forget_removed,
    known_keys,
    noted_orphans,
    ripe_orphans,
    tables_with_history,
    tables_with_lifecycle,
)
from fletching.catalog.namespace_rows import ensure_project
from fletching.catalog.publishing import Publication, publish
from fletching.catalog.read_session_rows import ReadSessionRow, insert_read_session
from fletching.catalog.schema import accepted_writes, change_keys, segments, tables, write_streams
from fletching.catalog.table_rows import drop_table, lock_table
from fletching.catalog.version_rows import add_tag, raise_horizon
from fletching.catalog.write_session_rows import (
    end_write_session,
    find_write_session,
    insert_write_session,
)
from fletching.catalog.write_stream_rows import (
    NewSegment,
    StagedRows,
    insert_staged,
    insert_write_stream,
)
from fletching.types import TableName


def session(rows: Connection, name: str, expires_at: float = 100.0, table: str = "t") -> int:
    return insert_write_session(
        rows, session_id=name, table_id=table, write_mode="batch", state="NORMAL", partition_spec=(),
        overwrite=False, enhance_write_check=False, flags={}, schema_version=1, now=1.0,
        expires_at=expires_at,
    ).pk  # fmt: skip


def staged(rows: Connection, pk: int, segment: NewSegment, now: float = 2.0) -> int:
    stream = insert_write_stream(
        rows, session_pk=pk, stream_id="a", stream_version=1, state="OPEN", exactly_once=False,
        token_digest=None, create_traces=[], now=now,
    )  # fmt: skip
    insert_staged(rows, stream.pk, 1, [StagedRows(segment)], now)
    return stream.pk


class Written:
    """What one write staged."""

    def __init__(self, segments: list[NewSegment]) -> None:
        self.segments = segments
        self.deletes: list[NewSegment] = []
        self.superseded: dict[str, BitMap] = {}


def test_sessions_whose_time_is_over_end_and_give_up_what_they_staged(
    rows: Connection, new_table: MakeTable, new_segment: MakeSegment
) -> None:
    new_table()
    late, soon = new_segment(), new_segment()
    staged(rows, session(rows, "late", 10.0), late)
    staged(rows, session(rows, "soon", 10.5), soon)
    done = session(rows, "done", 5.0)
    end_write_session(rows, done, from_state="NORMAL", state="COMMITTED", now=4.0)
    assert known_keys(rows, [late.key, soon.key, "other"]) == {late.key, soon.key}
    ended = expire_write_sessions(rows, normal="NORMAL", expired="EXPIRED", now=10.0)
    assert ended == (["late"], [(late.key, late.length)])
    assert known_keys(rows, [late.key, soon.key]) == {soon.key}
    assert expire_write_sessions(rows, normal="NORMAL", expired="EXPIRED", now=10.0) == ([], [])
    row = find_write_session(rows, "t", "late")
    assert row is not None
    assert row.state == "EXPIRED"
    # What ended is remembered for a while.
    assert forget_ended_sessions(rows, ended_before=3.9) == []
    assert forget_ended_sessions(rows, ended_before=4.0) == ["done"]
    assert forget_ended_sessions(rows, ended_before=10.0) == ["late"]
    assert find_write_session(rows, "t", "late") is None
    assert find_write_session(rows, "t", "soon") is not None


def test_idle_streams_go_and_old_replies_with_them(
    rows: Connection, new_table: MakeTable, new_segment: MakeSegment
) -> None:
    new_table()
    implicit, other = session(rows, "default"), session(rows, "mine")
    kept = staged(rows, other, new_segment(), now=1.0)
    segment = new_segment()
    idle = staged(rows, implicit, segment, now=1.0)
    for stream, at in ((kept, 5.0), (kept, 6.0)):
        rows.execute(
            insert(accepted_writes).values(
                stream_pk=stream, retry_trace_id=f"{at}", response=b"{}", created_at=at
            )
        )
    assert forget_idle_streams(rows, session_id="default", idle_before=0.5, writes_before=0) == 0
    assert forget_idle_streams(rows, session_id="default", idle_before=1.0, writes_before=5.0) == 1
    assert set(rows.execute(select(write_streams.c.pk)).scalars()) == {kept}
    assert list(rows.execute(select(accepted_writes.c.retry_trace_id)).scalars()) == ["6.0"]
    assert known_keys(rows, [segment.key]) == set()
    assert idle != kept


def reading(rows: Connection, name: str, version: int, since: int | None = None) -> None:
    insert_read_session(
        rows, ReadSessionRow(name, "t", version, b"", None, 1.0, 10.0, since_version=since)
    )


def test_read_sessions_end_with_their_time(rows: Connection, new_table: MakeTable) -> None:
    new_table()
    reading(rows, "a", 0)
    assert expire_read_sessions(rows, expired_before=9.9) == []
    assert expire_read_sessions(rows, expired_before=10.0) == ["a"]


@pytest.fixture
def replaced(rows: Connection, new_table: MakeTable, new_segment: MakeSegment) -> list[NewSegment]:
    """Two segments that version 3 replaced by another; the second came in version 2."""
    table = new_table()
    made = [new_segment(rows=n + 1) for n in range(3)]
    for segment in made[:2]:
        publish(rows, lock_table(rows, table.id), [segment], now=2.0)
    publish(rows, lock_table(rows, table.id), [made[2]], cleared_partitions=None, now=3.0)
    return made


def forgotten(segment: NewSegment) -> ForgottenObject:
    return ForgottenObject(segment.key, segment.length)


def test_what_no_readable_version_shows_is_forgotten(
    rows: Connection, replaced: list[NewSegment]
) -> None:
    assert forget_removed(rows, "t", horizon=2, limit=10) == ([], False)
    result, more = forget_removed(rows, "t", horizon=3, limit=1)
    assert more
    rest, more = forget_removed(rows, "t", horizon=3, limit=2)
    assert not more
    assert {*result, *rest} == {forgotten(each) for each in replaced[:2]}
    assert known_keys(rows, [each.key for each in replaced]) == {replaced[2].key}


@pytest.mark.parametrize(
    ("version", "since", "kept"),
    [(0, None, []), (1, None, [0]), (2, None, [0, 1]), (3, None, []), (3, 2, [0, 1]), (3, 3, [])],
)
def test_a_read_session_keeps_every_version_that_it_reads(
    rows: Connection, replaced: list[NewSegment], version: int, since: int | None, kept: list[int]
) -> None:
    reading(rows, "a", version, since)
    result, _ = forget_removed(rows, "t", horizon=3, limit=10)
    assert set(result) == {forgotten(replaced[n]) for n in {0, 1} - set(kept)}


@pytest.mark.parametrize(("version", "kept"), [(0, []), (1, [0]), (2, [0, 1]), (3, [])])
def test_a_tag_keeps_its_version(
    rows: Connection, replaced: list[NewSegment], version: int, kept: list[int]
) -> None:
    add_tag(rows, lock_table(rows, "t"), "mark", version, replace=False, now=4.0)
    result, _ = forget_removed(rows, "t", horizon=3, limit=10)
    assert set(result) == {forgotten(replaced[n]) for n in {0, 1} - set(kept)}


def test_an_object_goes_with_the_last_row_that_names_it(
    rows: Connection, replaced: list[NewSegment]
) -> None:
    publication = Publication(rows, lock_table(rows, "t"), "restore", now=5.0)
    publication.restore(2)
    assert publication.commit() == 4
    forgotten, _ = forget_removed(rows, "t", horizon=3, limit=10)
    assert forgotten == []  # shown again
    assert known_keys(rows, [each.key for each in replaced]) == {each.key for each in replaced}


def test_tables_are_found_by_what_upkeep_has_to_do(
    rows: Connection, replaced: list[NewSegment], new_table: MakeTable
) -> None:
    new_table("Days", lifecycle_days=3)
    gone = new_table("Gone", lifecycle_days=4, properties={"a": "b"})
    drop_table(rows, gone.id, 5.0)
    assert tables_with_lifecycle(rows) == [("days", 3)]
    assert tables_with_history(rows) == [("t", "{}")]
    raise_horizon(rows, lock_table(rows, "t"), 3)
    assert tables_with_history(rows) == [("t", "{}")]  # for its removed segments
    forget_removed(rows, "t", horizon=3, limit=10)
    assert tables_with_history(rows) == []


def test_a_dropped_table_goes_with_all_that_was_its(
    rows: Connection, replaced: list[NewSegment], new_segment: MakeSegment
) -> None:
    segment = new_segment()
    pk = session(rows, "s")
    staged(rows, pk, segment)
    reading(rows, "a", 1)
    add_tag(rows, lock_table(rows, "t"), "mark", 1, replace=False, now=4.0)
    assert drop_dropped_tables(rows, dropped_before=99.0) == ([], [])
    drop_table(rows, "t", 5.0)
    assert drop_dropped_tables(rows, dropped_before=4.9) == ([], [])
    ids, objects = drop_dropped_tables(rows, dropped_before=5.0)
    assert ids == ["t"]
    assert set(objects) == {*map(forgotten, replaced), forgotten(segment)}
    assert rows.execute(select(tables.c.id)).first() is None
    assert rows.execute(select(segments.c.id)).first() is None


def test_packs_keep_the_row_of_their_dropped_table(rows: Connection, new_table: MakeTable) -> None:
    new_table()
    insert_pack(rows, NewPack("p", "key-p", "t", session(rows, "s"), 1, 30, 7), 1.0)
    drop_table(rows, "t", 5.0)
    assert drop_dropped_tables(rows, dropped_before=5.0)[0] == ["t"]
    assert rows.execute(select(tables.c.id)).scalar() == "t"
    assert known_keys(rows, ["key-p"]) == {"key-p"}


def test_an_orphan_is_ripe_once_it_has_been_known_for_long_enough(rows: Connection) -> None:
    assert ripe_orphans(rows, ["a", "b"], now=10.0, seen_before=5.0) == set()
    assert ripe_orphans(rows, ["a"], now=20.0, seen_before=9.9) == set()
    assert ripe_orphans(rows, ["a", "c"], now=20.0, seen_before=10.0) == {"a"}
    assert sorted(noted_orphans(rows)) == ["a", "b", "c"]
    forget_orphans(rows, ["a", "c", "never"])
    assert noted_orphans(rows) == ["b"]
    many = [f"k{n}" for n in range(1001)]
    assert ripe_orphans(rows, many, now=1.0, seen_before=0.0) == set()
    assert ripe_orphans(rows, many, now=2.0, seen_before=1.0) == set(many)


def test_keys_of_changes_are_forgotten_when_nobody_repeats_them(
    rows: Connection, new_table: MakeTable
) -> None:
    new_table()
    for at in (1.0, 2.0):
        rows.execute(
            insert(change_keys).values(table_id="t", key=f"{at}", report=b"{}", created_at=at)
        )
    forget_changes(rows, made_before=1.0)
    assert list(rows.execute(select(change_keys.c.key)).scalars()) == ["2.0"]


def test_a_project_s_old_tables_are_dropped_and_no_others(
    rows: Connection, new_table: MakeTable
) -> None:
    for name, now in (("Old", 1.0), ("Young", 50.0)):
        new_table(name, now=now)
    ensure_project(rows, "other", 0.0)
    columns: dict[str, object] = {"table_id": "elsewhere", "name": TableName("other", "Old")}
    new_table(**columns)
    assert drop_tables_of(rows, "p", created_before=50.0, now=60.0) == ["Old"]
    assert drop_tables_of(rows, "p", created_before=50.0, now=61.0) == []
    left = rows.execute(select(tables.c.id, tables.c.dropped_at).order_by(tables.c.id)).all()
    assert [tuple(row) for row in left] == [("elsewhere", None), ("old", 60.0), ("young", None)]


def test_tables_that_nobody_fills_any_more_are_dropped(
    rows: Connection, new_table: MakeTable
) -> None:
    for name in ("quiet", "written", "streamed", "late"):
        full = TableName("p", name).unlisted(name)
        new_table(table_id=name, name=full, now=50.0 if name == "late" else 1.0)
    new_table("listed", now=1.0)
    session(rows, "w", expires_at=100.0, table="written")
    session(rows, "default", expires_at=1e9, table="streamed")

    def dropped(idle_before: float, now: float) -> list[str]:
        return drop_abandoned_tables(rows, session_id="default", idle_before=idle_before, now=now)

    assert dropped(0.5, 60.0) == []
    assert dropped(10.0, 60.0) == ["quiet", "streamed"]
    assert dropped(10.0, 101.0) == ["written"]
    assert dropped(50.0, 101.0) == ["late"]
    live = rows.execute(select(tables.c.id).where(tables.c.dropped_at.is_(None))).scalars()
    assert list(live) == ["listed"]
