from __future__ import annotations

from xml.etree import ElementTree as ET

from fletching.server.console.data.query_page import drawn_plan, scans_of

PRINTED = """Scans:
  demo.default.orders AS o: columns id, day; pushed: day = '<b>' AND id < 9
    partitions: 1 of 4; segments: 2 of 40; bytes: 100 of 4000
  demo.default.people AS p: columns id; pushed: -

  not.a.scan AS x: columns id; pushed: -
"""


def test_scans_are_read_from_what_was_printed() -> None:
    orders, people = scans_of(PRINTED)
    assert orders.table == "demo.default.orders"
    assert orders.pushed == "day = '<b>' AND id < 9"
    assert orders.kept == (1, 4, 2, 40, 100, 4000)
    assert people.kept == ()


def test_the_picture_is_to_scale_and_says_what_it_shows() -> None:
    picture = drawn_plan(PRINTED)
    assert picture is not None
    root = ET.fromstring(picture)
    widths = [float(each.get("width") or 0) for each in root.iter("rect")]
    assert widths[1] / widths[0] == 1 / 4
    assert widths[3] / widths[2] == 2 / 40
    assert "2 of 40 segments" in (root.get("aria-label") or "")
    assert "<b>" not in picture
    assert drawn_plan("nothing that was scanned") is None
