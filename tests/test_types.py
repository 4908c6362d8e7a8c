from __future__ import annotations

import datetime as dt
import decimal
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import UsageError
from fletching.types import ByteRange, PartitionSpec, RowRange, TableName

CASES = [
    ("", ()),
    ("pt=1", (("pt", "1"),)),
    ("pt=1,region=eu", (("pt", "1"), ("region", "eu"))),
    ("pt=1/region=eu", (("pt", "1"), ("region", "eu"))),
    ("pt='a,b'", (("pt", "a,b"),)),
    ("pt=\"x/y\", r='z'", (("pt", "x/y"), ("r", "z"))),
    ("pt=", (("pt", ""),)),
    (" pt = a b ", (("pt", "a b"),)),
    ("pt=a=b", (("pt", "a=b"),)),
]


@pytest.mark.parametrize(("text", "items"), CASES)
def test_partition_text_is_read_as_the_protocol_spells_it(
    text: str, items: tuple[tuple[str, str], ...]
) -> None:
    assert PartitionSpec.parse(text).items == items


@pytest.mark.parametrize("text", ["pt", "=1", "pt='1", "pt=1,", "pt=1,pt=2", "pt='a'b", "a=1,,b=2"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="partition"):
        PartitionSpec.parse(text)


VALUES: list[tuple[object, str]] = [
    ("a=b/c", "a=b/c"),
    (1, "1"),
    (np.int64(5), "5"),
    (True, "true"),
    (np.bool_(False), "false"),
    ("True", "True"),
    (1.5, "1.5"),
    (decimal.Decimal("1.50"), "1.50"),
    (dt.date(2026, 1, 2), "2026-01-02"),
    (pd.Timestamp("2026-01-02 03:04:05"), "2026-01-02 03:04:05"),
    (np.datetime64("2026-01-02"), "2026-01-02"),
    (np.str_("x"), "x"),
    (pa.scalar(7), "7"),
]


@pytest.mark.parametrize(("value", "text"), VALUES)
def test_values_of_a_dict_become_their_text(value: object, text: str) -> None:
    assert PartitionSpec.parse({"pt": value}).items == (("pt", text),)


@pytest.mark.parametrize(
    "value",
    [
        None, pd.NA, pd.NaT, np.datetime64("NaT"), math.nan, math.inf, decimal.Decimal("NaN"), b"x", ["a"],
        np.array([1]), {"a": 1}, pa.scalar(None, pa.int8()), 1j,
    ],
    ids=str,
)  # fmt: skip
def test_what_has_no_text_of_its_own_is_no_partition(value: object) -> None:
    with pytest.raises(UsageError, match=r"partition column pt has a value, and .* is none"):
        PartitionSpec.parse({"pt": value})


def test_columns_of_a_dict_are_texts_and_different() -> None:
    with pytest.raises(UsageError, match="named by text, not by 1"):
        PartitionSpec.parse({1: "a"})  # type: ignore[dict-item]  # what is tested
    with pytest.raises(UsageError, match="names a column twice"):
        PartitionSpec.parse({"pt": 1, "PT": 2})


keys = st.text("abcdefgh_", min_size=1, max_size=5)
values = st.text(st.characters(codec="utf-8", exclude_characters="'"), max_size=8)


@given(st.dictionaries(keys, values, max_size=4))
def test_a_spec_survives_its_own_text(items: dict[str, str]) -> None:
    spec = PartitionSpec.parse(items)
    assert PartitionSpec.parse(str(spec)) == spec


@pytest.mark.parametrize("kind", [RowRange, ByteRange])
@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2)])
def test_ranges_are_half_open_and_never_backwards(
    kind: type[RowRange | ByteRange], start: int, end: int
) -> None:
    with pytest.raises(UsageError):
        kind(start, end)


def test_names_and_ranges_say_what_they_are() -> None:
    assert str(TableName("demo", "events")) == "demo.default.events"
    unlisted = TableName("demo", "events", "s").unlisted("t01")
    assert unlisted.wanted == TableName("demo", "events", "s") == unlisted.wanted.wanted
    assert (unlisted.unlisted_id, unlisted.wanted.unlisted_id) == ("t01", "")
    assert RowRange(3, 10).length == 7
    assert ByteRange(3, 10).shifted(5) == ByteRange(8, 15)
