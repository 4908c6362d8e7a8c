"""Names of time zones, and what their clocks make of DuckDB's SQL."""

from __future__ import annotations

import pyarrow as pa
import pytest
from tests.folding import folded

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.time_zones import (
    TIME_ZONE,
    TO_LOCAL,
    TO_UTC,
    checked_time_zone,
    has_moments,
    time_zone_of,
    to_local,
    to_utc,
)


@folded(
    "text, name",
    [
        ("", ""),
        ("UTC", ""),
        ("gmt", ""),
        ("Etc/GMT", ""),
        ("GMT+0", ""),
        (" Asia/Shanghai ", "Asia/Shanghai"),
        ("America/Argentina/Ushuaia", "America/Argentina/Ushuaia"),
        ("GMT+8", "Etc/GMT-8"),
        ("utc-05", "Etc/GMT+5"),
        ("+08:00", "Etc/GMT-8"),
        ("-3", "Etc/GMT+3"),
        ("+05:30", "+05:30"),
        ("GMT-0330", "-03:30"),
        ("utc+00:00", ""),
    ],
)
def test_names(text: str, name: str) -> None:
    assert checked_time_zone(text) == name


@folded(
    "text",
    [
        "Nowhere",
        "Asia/Shanghigh",
        "GMT+99",
        "+05:99",
        "+19:30",
        "../../etc/passwd",
        "/etc/localtime",
        "a'b",
    ],
)
def test_what_is_no_zone(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="there is no time zone"):
        checked_time_zone(text)


def test_flags_choose_it() -> None:
    assert time_zone_of({}) == ""
    assert time_zone_of({TIME_ZONE: "Asia/Tokyo", "other": "x"}) == "Asia/Tokyo"


def test_utc_changes_nothing() -> None:
    assert to_utc("x", "") == to_local("x", "") == "x"
    moved = to_utc(to_local("x", "Asia/Tokyo"), "Asia/Tokyo")
    assert moved.count("'Asia/Tokyo'") == moved.count(TO_UTC) + moved.count(TO_LOCAL) == 2


def test_moments_are_found_inside() -> None:
    moment = pa.timestamp("ms")
    inside = [
        moment,
        pa.list_(moment),
        pa.map_(pa.string(), pa.struct([pa.field("x", pa.list_(moment, 2))])),
        pa.dictionary(pa.int32(), moment),
    ]
    assert all(map(has_moments, inside))
    assert not any(map(has_moments, [pa.date32(), pa.list_(pa.int64()), pa.time64("us")]))
