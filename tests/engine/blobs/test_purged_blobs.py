"""Blobs of deleted rows go when their rows are purged and no version needs them; others stay."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import select

import fletching
from fletching.catalog.schema import segment_packs, segments


def test_purging_frees_the_blobs_of_deleted_rows(tmp_path: Path) -> None:
    with fletching.connect(tmp_path / "data", create=True) as client:
        table = client.create_table("t", "id BIGINT, image BLOB, note STRING")
        with table.write_session() as session, session.writer() as writer:
            for number in range(3):
                # Each upload is a pack of its own; the rows come to one segment.
                reference = session.put_blob(b"x" * 100, "image")
                writer.write({"id": [number], "image": [reference], "note": ["n"]})
        table.update({"note": "upper(note)"}, where="id = 1")
        table.delete("id = 0")
        transport: Any = client.channel.transport
        engine = transport.engine

        def linked() -> int:
            """Packs that a segment which the catalog knows refers to."""
            with engine.context.database.read() as connection:
                return len(
                    connection.execute(
                        select(segment_packs.c.pack_id)
                        .join(segments, segments.c.key == segment_packs.c.segment_key)
                        .distinct()
                    ).all()
                )

        table.compact(purge=True)
        assert linked() == 3  # older versions have them
        table.expire_versions(dt.timedelta())
        assert linked() == 2
        assert [item for item in engine.verify() if item.problems] == []
        rows = table.scan(["id", "image"]).to_table()
        assert rows["id"].to_pylist() == [2, 1]
        references = [pa.scalar(each).as_py() for each in rows["image"].to_pylist()]
        assert [client.open_blob(each).read() for each in references] == [b"x" * 100] * 2
