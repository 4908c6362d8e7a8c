from __future__ import annotations

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
    assert RowRange(3, 10).length == 7
    assert ByteRange(3, 10).shifted(5) == ByteRange(8, 15)
