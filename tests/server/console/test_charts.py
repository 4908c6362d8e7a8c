from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from fletching.server.console import charts

NASTY = "<script>\"'&"


@pytest.mark.parametrize(
    "chart",
    [
        charts.lines(NASTY, [(NASTY, [1.0, None, 3.0, 2.0])], span=NASTY),
        charts.lines("nothing", [("a", [])]),
        charts.lines("one", [("a", [None, 5.0])]),
        charts.bars(NASTY, [(NASTY, 3), ("b", 0)], lower=NASTY, upper=NASTY),
        charts.bars("nothing", []),
        charts.meter(NASTY, 5, 10),
        charts.meter("no limit", 5, 0),
        charts.shares(NASTY, 5, 10, 5),
        charts.shares("nothing", 0, 0),
    ],
)
def test_charts_are_whole_and_escaped_and_styled_elsewhere(chart: str) -> None:
    root = ET.fromstring(chart)
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert "style=" not in chart
    assert "<script" not in chart


def heights(chart: str) -> list[float]:
    return [float(each.get("height") or 0) for each in ET.fromstring(chart).iter("rect")]


def test_bars_are_to_scale_and_what_is_there_is_seen() -> None:
    tall, half, little, none = heights(
        charts.bars("b", [("a", 1000), ("b", 500), ("c", 1), ("d", 0)])
    )
    assert half == pytest.approx(tall / 2, rel=0.01)
    assert little == 1.0
    assert none == 0.0


def test_a_full_meter_looks_different() -> None:
    assert 'class="full"' in charts.meter("m", 95, 100)
    assert 'class="full"' not in charts.meter("m", 50, 100)
    assert 'width="160.0"' in charts.meter("m", 500, 100)
