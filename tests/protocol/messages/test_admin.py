"""Ids of statements: they sort by time, and no two are alike."""

from __future__ import annotations

import datetime as dt

from fletching.protocol.messages.admin import new_instance_id


def test_ids_sort_by_time() -> None:
    moments = [dt.datetime(2026, 1, 1, 0, 0, 0, n * 1000, dt.UTC).timestamp() for n in (1, 2, 999)]
    ids = [new_instance_id(moment) for moment in moments]
    assert ids == sorted(ids)
    assert ids[0].startswith("20260101000000001")
    assert len({new_instance_id(0.0) for _ in range(100)}) == 100
