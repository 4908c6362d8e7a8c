"""Blob packs: linked to the segments that refer to them, and garbage once none does."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, func, select
from tests.catalog.conftest import MakeSegment, MakeTable

from fletching.catalog.blob_rows import (
    NewPack,
    copy_links,
    forget_links,
    forget_packs,
    forget_stale_links,
    insert_pack,
    link_segments,
    links_of_packs,
    list_packs,
    unreferenced_packs,
)
from fletching.catalog.publishing import publish
from fletching.catalog.schema import segment_packs
from fletching.catalog.table_rows import drop_table, lock_table
from fletching.catalog.write_session_rows import (
    end_write_session,
    ensure_default_session,
    insert_write_session,
)
from fletching.errors import InvalidArgumentError


def session(rows: Connection, name: str, table: str = "t") -> int:
    return insert_write_session(
        rows, session_id=name, table_id=table, write_mode="batch", state="NORMAL", partition_spec=(),
        overwrite=False, enhance_write_check=False, flags={}, schema_version=1, now=1.0,
        expires_at=100.0,
    ).pk  # fmt: skip


def pack(rows: Connection, name: str, session_pk: int, table: str = "t", now: float = 10.0) -> None:
    insert_pack(rows, NewPack(name, f"key-{name}", table, session_pk, 3, 300, 7), now)


def links(rows: Connection) -> int:
    return int(rows.execute(select(func.count()).select_from(segment_packs)).scalar_one())


def test_packs_are_listed_by_table(rows: Connection, new_table: MakeTable) -> None:
    new_table("T")
    new_table("U")
    pk = session(rows, "s")
    pack(rows, "p2", pk)
    pack(rows, "p1", pk, now=11.0)
    pack(rows, "p3", session(rows, "s", "u"), "u")
    assert [item.id for item in list_packs(rows)] == ["p1", "p2", "p3"]
    (only,) = list_packs(rows, "u")
    assert (only.key, only.blobs, only.length, only.crc32c) == ("key-p3", 3, 300, 7)


def test_the_links_of_packs_are_told_with_their_blobs(
    rows: Connection, new_table: MakeTable
) -> None:
    new_table("T")
    pk = session(rows, "s")
    for name in ("p1", "p2", "p3"):
        pack(rows, name, pk)
    link_segments(rows, "t", ["k1", "k2"], {"p1"})
    link_segments(rows, "t", ["k3"], {"p1", "p3"})
    links = links_of_packs(rows, ["p2", "p1", "unknown"])
    assert [(each.pack, each.blobs, sorted(each.segments)) for each in links] == [
        ("p1", 3, ["k1", "k2", "k3"]),
        ("p2", 3, []),
    ]


def test_a_pack_that_is_gone_cannot_be_linked(rows: Connection, new_table: MakeTable) -> None:
    new_table("T")
    new_table("U")
    pack(rows, "p", session(rows, "s"))
    link_segments(rows, "t", ["k1", "k2"], ["p"])
    assert links(rows) == 2
    link_segments(rows, "t", [], ["p"])
    link_segments(rows, "t", ["k3"], [])
    for table, packs in (("t", ["p", "gone"]), ("u", ["p"])):
        with pytest.raises(InvalidArgumentError, match="1 uploads"):
            link_segments(rows, table, ["k3"], packs)
    assert links(rows) == 2


def test_links_follow_a_merged_segment_and_end_with_the_old(
    rows: Connection, new_table: MakeTable, new_segment: MakeSegment
) -> None:
    table = new_table("T")
    pk = session(rows, "s")
    for name in ("p", "q", "r"):
        pack(rows, name, pk)
    merged = new_segment()
    publish(rows, lock_table(rows, table.id), [merged], now=2.0)
    link_segments(rows, "t", ["k-old1"], ["p", "q"])
    link_segments(rows, "t", ["k-old2"], ["q"])
    copy_links(rows, ["k-old1", "k-old2"], merged.key)
    copy_links(rows, ["k-none"], "k-none2")
    assert links(rows) == 5
    forget_stale_links(rows)
    kept = rows.execute(select(segment_packs.c.segment_key, segment_packs.c.pack_id)).all()
    assert sorted(tuple(row) for row in kept) == [(merged.key, "p"), (merged.key, "q")]


def test_what_nothing_needs_is_garbage(rows: Connection, new_table: MakeTable) -> None:
    def garbage(now: float) -> list[str]:
        return unreferenced_packs(rows, now=now, kept_seconds=50.0)

    new_table("T")
    new_table("U")
    open_, aborted, committed = session(rows, "o"), session(rows, "a"), session(rows, "c")
    default = ensure_default_session(
        rows, session_id="default", table_id="t", write_mode="batch", state="NORMAL",
        schema_version=1, now=1.0, expires_at=1e9,
    ).pk  # fmt: skip
    pack(rows, "open", open_)
    pack(rows, "aborted", aborted)
    pack(rows, "committed", committed, now=11.0)
    pack(rows, "default", default, now=12.0)
    pack(rows, "linked", committed, now=13.0)
    pack(rows, "dropped", session(rows, "d", "u"), "u", now=14.0)
    link_segments(rows, "t", ["k"], ["linked"])
    assert garbage(20.0) == []
    end_write_session(rows, aborted, from_state="NORMAL", state="ABORTED", now=20.0)
    end_write_session(rows, committed, from_state="NORMAL", state="COMMITTED", now=20.0)
    assert garbage(21.0) == ["aborted"]
    drop_table(rows, "u", 22.0)
    assert garbage(23.0) == ["aborted", "dropped"]
    assert garbage(69.9) == ["aborted", "default", "dropped"]
    assert garbage(70.0) == ["aborted", "committed", "default", "dropped"]
    # An open session's pack is kept until its time is long over.
    assert "open" not in garbage(149.9)
    assert "open" in garbage(150.0)


def test_a_pack_linked_meanwhile_is_not_forgotten(rows: Connection, new_table: MakeTable) -> None:
    new_table("T")
    pk = session(rows, "s")
    for name in ("p", "q"):
        pack(rows, name, pk)
    link_segments(rows, "t", ["k"], ["p"])
    assert forget_packs(rows, ["p", "q", "none"]) == [("key-q", 300)]
    assert [item.id for item in list_packs(rows)] == ["p"]
    assert forget_packs(rows, []) == []


def test_links_without_segments_are_found_in_pages(
    rows: Connection, new_table: MakeTable, new_segment: MakeSegment
) -> None:
    made = new_table("T")
    pack(rows, "p1", session(rows, "s"))
    kept = new_segment()
    publish(rows, lock_table(rows, made.id), [kept], now=1.0)
    stale = [f"{kept.key}-{number:02d}" for number in range(10)]
    link_segments(rows, "t", [kept.key, *stale], ["p1"])

    def linked() -> list[str]:
        links = rows.execute(segment_packs.select()).all()
        return sorted(row.segment_key for row in links)

    forget_links(rows, stale[:2])
    assert linked() == [kept.key, *stale[2:]]
    after = forget_stale_links(rows, limit=4)
    assert after == stale[4]
    assert linked() == [kept.key, *stale[5:]]
    assert forget_stale_links(rows, after, limit=100) == ""
    assert linked() == [kept.key]
    assert forget_stale_links(rows, limit=1) == kept.key
    assert forget_stale_links(rows, kept.key, limit=1) == ""
    assert unreferenced_packs(rows, now=1e9, kept_seconds=0.0) == []
    forget_links(rows, [kept.key])
    assert unreferenced_packs(rows, now=1e9, kept_seconds=0.0) == ["p1"]
