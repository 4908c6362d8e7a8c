"""Links of segments to packs: they go with their segments, and what stayed is found page by page."""

from __future__ import annotations

from tests.catalog.test_segment_rows import make_table, segment, table

from fletching.catalog.blob_rows import (
    NewPack,
    forget_links,
    forget_stale_links,
    insert_pack,
    link_segments,
    unreferenced_packs,
)
from fletching.catalog.database import Database
from fletching.catalog.publishing import publish
from fletching.catalog.schema import segment_packs


def test_links_without_segments_are_found_in_pages(any_database: Database) -> None:
    with any_database.trial() as connection:
        make_table(connection)
        insert_pack(connection, NewPack("p1", "packs/p1", "t", 1, 1, 10, 0), 0.0)
        kept = segment()
        publish(connection, table(connection), [kept], now=1.0)
        stale = [f"{kept.key}-{number:02d}" for number in range(10)]
        link_segments(connection, "t", [kept.key, *stale], ["p1"])

        def links() -> list[str]:
            found = connection.execute(segment_packs.select()).all()
            return sorted(row.segment_key for row in found)

        forget_links(connection, stale[:2])
        assert links() == [kept.key, *stale[2:]]
        after = forget_stale_links(connection, limit=4)
        assert after == stale[4]
        assert links() == [kept.key, *stale[5:]]
        assert forget_stale_links(connection, after, limit=100) == ""
        assert links() == [kept.key]
        assert unreferenced_packs(connection, now=1e9, kept_seconds=0.0) == []
        forget_links(connection, [kept.key])
        assert unreferenced_packs(connection, now=1e9, kept_seconds=0.0) == ["p1"]
