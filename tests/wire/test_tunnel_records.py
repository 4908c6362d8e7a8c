"""The tunnel's record stream, both ways: known bytes, any values, any damage."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching.errors import UsageError, WireError
from fletching.wire.tunnel_record_decoder import RecordDecoder
from fletching.wire.tunnel_records import MOMENT_TYPE, Kind, RecordEncoder, RecordLayout


def layout(kind: pa.DataType, *, vector: bool = False) -> RecordLayout:
    """The layout of a type, as the stream has one for it."""
    if kind == MOMENT_TYPE:
        return RecordLayout(Kind.MOMENT, kind)
    if pa.types.is_integer(kind):
        return RecordLayout(Kind.INTEGER, kind)
    if pa.types.is_boolean(kind):
        return RecordLayout(Kind.BOOLEAN, kind)
    if pa.types.is_float32(kind):
        return RecordLayout(Kind.FLOAT, kind)
    if pa.types.is_float64(kind):
        return RecordLayout(Kind.DOUBLE, kind)
    if pa.types.is_binary(kind):
        return RecordLayout(Kind.BYTES, kind)
    if pa.types.is_map(kind):
        return RecordLayout(Kind.MAP, kind, (layout(kind.key_type), layout(kind.item_type)))
    if pa.types.is_list(kind):
        return RecordLayout(Kind.VECTOR if vector else Kind.LIST, kind, (layout(kind.value_type),))
    children = tuple(layout(kind.field(n).type) for n in range(kind.num_fields))
    return RecordLayout(Kind.STRUCT, kind, children)


def encoded(layouts: list[RecordLayout], *batches: list[pa.Array]) -> bytes:
    encoder = RecordEncoder(layouts)
    return b"".join(bytes(encoder.encode(batch)) for batch in batches) + encoder.finish()


def decoded(layouts: list[RecordLayout], data: bytes, step: int = 1 << 30) -> list[Any]:
    decoder = RecordDecoder(layouts, decode_bytes=step)
    result: list[list[Any]] = [[] for _ in layouts]
    for start in range(0, len(data), step):
        decoder.feed(data[start : start + step])
        for batch in decoder.batches():
            for column, array in zip(result, batch, strict=True):
                column.extend(array.to_pylist())
    decoder.finish()
    for batch in decoder.batches():
        for column, array in zip(result, batch, strict=True):
            column.extend(array.to_pylist())
    return result


I64, BIN = pa.int64(), pa.binary()
XY = pa.struct([("x", I64), ("y", BIN)])
Z = pa.struct([("z", pa.float64())])

# (types, columns, the bytes as PyODPS's own reader takes them)
GOLDEN: list[tuple[list[pa.DataType], list[list[Any]], str]] = [
    ([I64, BIN], [[1], [b"a"]], "080212016180c0ff7fea91d2b205f0ffff7f02f8ffff7f97d6b6ae06"),
    (
        [I64, BIN],
        [[1, 2], [b"a", b"b"]],
        "080212016180c0ff7fea91d2b205080412016280c0ff7fb1e7c8a301f0ffff7f04f8ffff7f848bd2ab01",
    ),
    ([I64, BIN], [[1], [b"q"]], "080212017180c0ff7f859fa9b004f0ffff7f02f8ffff7fc495bfd70e"),
    ([I64, BIN], [[None], [None]], "80c0ff7f00f0ffff7f02f8ffff7fc7979dc304"),
    (
        [I64],
        [[-1, 2**63 - 1]],
        "080180c0ff7fa0b0faf20d08feffffffffffffffff0180c0ff7fd8c6a2e505f0ffff7f04f8ffff7fec809e9b0d",
    ),
    (
        [pa.int8(), pa.int16(), pa.int32()],
        [[-3], [300], [70000]],
        "080510d80418e0c50880c0ff7fe280c3d604f0ffff7f02f8ffff7fc8d8a4b20d",
    ),
    (
        [pa.bool_()],
        [[True, False]],
        "080180c0ff7f9ab5a2f808080080c0ff7f99b38ceb07f0ffff7f04f8ffff7fe5fdaef807",
    ),
    (
        [pa.float64(), pa.float32()],
        [[2.5], [1.5]],
        "090000000000000440150000c03f80c0ff7fafbdd58b08f0ffff7f02f8ffff7f89dbb7f30e",
    ),
    ([I64], [[1767323045678]], "08dcbccccaef6680c0ff7fd6c5e7d105f0ffff7f02f8ffff7ff4b6dad008"),
    (
        [MOMENT_TYPE],
        [[{"sec": 1767323045, "nano": 123456789}]],
        "0acad6b9950daab4de7580c0ff7fbfb4d5c909f0ffff7f02f8ffff7fb5d09df70a",
    ),
    (
        [MOMENT_TYPE],
        [[{"sec": 90, "nano": 5}]],
        "0ab4010a80c0ff7f9196d3b808f0ffff7f02f8ffff7fa0ada2a80c",
    ),
    ([BIN], [[b"12.3400"]], "0a0731322e3334303080c0ff7f8db1a43cf0ffff7f02f8ffff7fc7f9a39d0a"),
    ([BIN], [[b"\x00\xff"]], "0a0200ff80c0ff7fc2899dab01f0ffff7f02f8ffff7fedca8fc708"),
    (
        [BIN, BIN],
        [[b"ab"], [b"cd"]],
        "0a0261621202636480c0ff7f978db1d301f0ffff7f02f8ffff7ff4aba6a60d",
    ),
    (
        [pa.list_(I64)],
        [[[1, None, 3]]],
        "0a03000201000680c0ff7f94d6b8960af0ffff7f02f8ffff7f8dcb96d305",
    ),
    ([pa.list_(I64)], [[[]]], "0a0080c0ff7fffc28ba909f0ffff7f02f8ffff7fad9fd3a80c"),
    (
        [pa.map_(BIN, I64)],
        [[[(b"k", 1), (b"m", None)]]],
        "0a0200016b00016d0200020180c0ff7f84b28efa0ff0ffff7f02f8ffff7f8ac3f79a03",
    ),
    ([XY], [[{"x": 7, "y": None}]], "0a000e0180c0ff7fe9c8a1820ef0ffff7f02f8ffff7f84f7a6b102"),
    (
        [pa.list_(Z)],
        [[[{"z": 1.0}, None]]],
        "0a020000000000000000f03f0180c0ff7f86f5ec8303f0ffff7f02f8ffff7fcb99cef001",
    ),
]
GOLDEN_IDS = ["-".join(map(str, types)) + f"-{n}" for n, (types, _, _) in enumerate(GOLDEN)]


@pytest.mark.parametrize(("types", "columns", "text"), GOLDEN, ids=GOLDEN_IDS)
def test_known_bytes(types: list[pa.DataType], columns: list[list[Any]], text: str) -> None:
    layouts = [layout(kind) for kind in types]
    arrays = [pa.array(values, kind) for values, kind in zip(columns, types, strict=True)]
    assert encoded(layouts, arrays).hex() == text
    expected = [array.to_pylist() for array in arrays]
    for step in (1, 2, 7, 1000):
        assert decoded(layouts, bytes.fromhex(text), step) == expected


def test_a_vector() -> None:
    kind = layout(pa.list_(pa.float32()), vector=True)
    sent = bytes.fromhex(  # with checksums as the compiled writer extends them
        "0a020000803f0000004080c0ff7fd6b4e4f7fbffffffff01f0ffff7f02f8ffff7ff2bcf4e901"
    )
    assert decoded([kind], sent) == [[[1.0, 2.0]]]
    ours = encoded([kind], [pa.array([[1.0, 2.0]], kind.type)])
    assert decoded([kind], ours) == [[[1.0, 2.0]]]
    with pytest.raises(UsageError, match="null"):
        encoded([kind], [pa.array([[1.0, None]], kind.type)])


def test_a_checksum_may_be_extended_to_64_bits() -> None:
    sent = "080212017180c0ff7f859fa9b004f0ffff7f02f8ffff7fc495bfd7feffffffff01"
    assert decoded([layout(I64), layout(BIN)], bytes.fromhex(sent)) == [[1], [b"q"]]


def test_no_rows() -> None:
    empty = bytes.fromhex("f0ffff7f00f8ffff7f00")
    assert encoded([layout(I64)]) == empty
    assert decoded([layout(I64)], empty) == [[]]


# --- any values ---------------------------------------------------------------------------------

END = bytes.fromhex("80c0ff7f")
scalars = st.sampled_from([pa.int8(), pa.int32(), I64, pa.bool_(), pa.float32(), pa.float64(), BIN])
types = st.recursive(
    scalars | st.just(MOMENT_TYPE),
    lambda inner: st.one_of(
        inner.map(pa.list_),
        st.builds(pa.map_, st.just(BIN) | st.just(I64), inner),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda parts: pa.struct([(f"f{n}", part) for n, part in enumerate(parts)])
        ),
    ),
    max_leaves=4,
)


def values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if kind == MOMENT_TYPE:
        value: Any = st.fixed_dictionaries(
            {"sec": st.integers(-(2**40), 2**40), "nano": st.integers(0, 999_999_999)}
        )
    elif pa.types.is_integer(kind):
        value = st.integers(-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)
    elif pa.types.is_boolean(kind):
        value = st.booleans()
    elif pa.types.is_floating(kind):
        value = st.floats(width=kind.bit_width, allow_nan=False)
    elif pa.types.is_binary(kind):
        value = st.binary(max_size=20) | st.lists(
            st.sampled_from([END, b"\x00", b"\x08\x02", END + b"\x00"]), max_size=6
        ).map(b"".join)
    elif pa.types.is_map(kind):
        key = values(kind.key_type).filter(lambda each: each is not None)
        value = st.lists(st.tuples(key, values(kind.item_type)), max_size=3)
    elif pa.types.is_list(kind):
        value = st.lists(values(kind.value_type), max_size=5)
    else:
        value = st.fixed_dictionaries(
            {kind.field(n).name: values(kind.field(n).type) for n in range(kind.num_fields)}
        )
    return st.none() | value


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_any_rows_come_back(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(types, min_size=1, max_size=4))
    rows = data.draw(st.integers(0, 12))
    columns = [
        pa.array(data.draw(st.lists(values(kind), min_size=rows, max_size=rows)), kind)
        for kind in kinds
    ]
    layouts = [layout(kind) for kind in kinds]
    cut = data.draw(st.integers(0, rows))
    sent = encoded(layouts, [c.slice(0, cut) for c in columns], [c.slice(cut) for c in columns])
    expected = [column.to_pylist() for column in columns]
    assert decoded(layouts, sent) == expected
    assert decoded(layouts, sent, data.draw(st.integers(1, 60))) == expected


def test_many_rows_with_the_end_of_a_row_in_their_values() -> None:
    layouts = [layout(I64), layout(BIN)]
    texts = [END * (n % 5) + b"x" * (n % 3) for n in range(2000)]
    columns = [pa.array(range(2000)), pa.array(texts)]
    assert decoded(layouts, encoded(layouts, columns)) == [list(range(2000)), texts]


def test_a_long_list_in_one_row() -> None:
    kind = pa.list_(pa.int32())
    rows = [[1], None, list(range(5000)), []]
    assert decoded([layout(kind)], encoded([layout(kind)], [pa.array(rows, kind)])) == [rows]


@pytest.mark.parametrize("kind", [I64, pa.int8(), pa.float32(), pa.float64(), BIN, XY])
@pytest.mark.parametrize("nulls", [0, 1, 700])
def test_long_lists(kind: pa.DataType, nulls: int) -> None:
    def value(number: int) -> Any:
        if kind == BIN:
            return b"x" * (number % 5)
        if kind == XY:
            return {"x": number, "y": None}
        return number % 100

    listed = [None if number < nulls else value(number) for number in range(700)]
    rows = [listed, None, listed[:300], []] * 30 + [listed]
    listing = pa.list_(kind)
    for several in (rows, rows[-3:]):
        sent = encoded([layout(listing)], [pa.array(several, listing)])
        assert decoded([layout(listing)], sent) == [several]
        if len(several) == 3:
            for end in range(1, len(sent) - 20, 997):
                with pytest.raises(WireError):
                    decoded([layout(listing)], sent[:end])


def test_lists_inside_lists_take_no_longer_for_each_level() -> None:
    """A level that parsed those below would do so for each above it: 2**20 times here."""
    kind, value = I64, 5
    rows: Any = value
    for _ in range(20):
        kind, rows = pa.list_(kind), [rows]
    column = pa.array([rows] * 100, kind)
    sent = encoded([layout(kind)], [column])
    assert decoded([layout(kind)], sent) == [column.to_pylist()]


def test_elements_below_null_lists_are_nobody_s() -> None:
    kind = pa.list_(I64)
    inner = pa.ListArray.from_arrays(
        pa.array([0, 2, 4, 5], pa.int32()), pa.array([1, 2, 8, 9, 3]), mask=pa.array([False, True, False])
    )  # fmt: skip
    assert decoded([layout(kind)], encoded([layout(kind)], [inner])) == [[[1, 2], None, [3]]]


# --- refusals -----------------------------------------------------------------------------------


def test_columns_must_be_as_the_layouts_say() -> None:
    encoder = RecordEncoder([layout(I64)])
    with pytest.raises(UsageError, match="int32"):
        encoder.encode([pa.array([1], pa.int32())])
    with pytest.raises(UsageError, match="2 columns"):
        encoder.encode([pa.array([1]), pa.array([1])])
    for make in (RecordEncoder, RecordDecoder):
        with pytest.raises(UsageError, match="columns"):
            make([])
    with pytest.raises(UsageError, match="floats"):
        layout(pa.list_(I64), vector=True)


@pytest.mark.parametrize("keys", [1, 3, 100])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("rows", [1, 50])
def test_keys_of_maps_that_are_null(keys: int, nested: bool, rows: int) -> None:
    """No row is taken with a key that is not there, wherever it stands, and nothing else is raised."""
    made = pa.map_(pa.int64(), pa.bool_())
    kind = layout(pa.list_(made) if nested else made)
    value: Any = [(5, True)] * keys
    columns = [pa.array([[value] if nested else value] * rows, kind.type)]
    whole = encoded([kind], columns)
    assert len(decoded([kind], whole)[0]) == rows
    count = bytes([keys])
    before = count + b"\x00\x0a" * keys
    assert before in whole
    after = count + b"\x00\x0a" * (keys - 1) + b"\x01"
    positions = whole.count(before)
    for damaged in (whole.replace(before, after, 1), after.join(whole.rsplit(before, 1))):
        assert damaged.count(before) == positions - 1
        for step in (1 << 30, 64):
            with pytest.raises(WireError) as refused:
                decoded([kind], damaged, step)
            assert refused.value.layer is not None
