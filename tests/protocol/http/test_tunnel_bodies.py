"""Bodies of the tunnels: known bytes, PyODPS's own reader and writer, and what is refused."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import types
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching.errors import InvalidArgumentError, InvalidParameterError, UsageError, WireError
from fletching.protocol.http.tunnel_bodies import (
    MemoryNeed,
    RecordBodyEncoder,
    TunnelColumn,
    arrow_body_decoder,
    record_body_decoder,
    reply_coding,
    tunnel_columns,
    tunnel_encoder,
)
from fletching.protocol.messages.responses import Column
from fletching.protocol.types.arrow_types import arrow_type
from fletching.protocol.types.odps_types import OdpsType, TypeCode, parse_type


def columns(*texts: str) -> list[TunnelColumn]:
    return [TunnelColumn(f"c{n}", parse_type(text)) for n, text in enumerate(texts)]


def decoded(stack: Any, data: bytes, step: int = 1 << 30) -> pa.Table:
    chunks: list[bytes] = []

    def take() -> None:
        chunks.extend(bytes(p) for p in stack.events() if not isinstance(p, MemoryNeed))

    for start in range(0, len(data), step):
        stack.feed(data[start : start + step])
        take()
    stack.finish()
    take()
    return pa.ipc.open_stream(b"".join(chunks)).read_all()


def encoded(texts: Sequence[str], arrays: Sequence[pa.Array]) -> bytes:
    encoder = RecordBodyEncoder([parse_type(text) for text in texts])
    batch = pa.RecordBatch.from_arrays(list(arrays), names=[f"c{n}" for n in range(len(arrays))])
    return bytes(encoder.encode(batch)) + encoder.finish()


# What PyODPS's own reader takes: (type, values, the stream).
GOLDEN: list[tuple[str, list[Any], str]] = [
    ("date", [dt.date(2026, 1, 2)], "08cebf0280c0ff7f86acd8d10ef0ffff7f02f8ffff7fbba388e308"),
    ("date", [dt.date(1969, 12, 31)], "080180c0ff7fa0b0faf20df0ffff7f02f8ffff7fc3a1d2b901"),
    (
        "datetime",
        [1767323045678],
        "08dcbccccaef6680c0ff7fd6c5e7d105f0ffff7f02f8ffff7ff4b6dad008",
    ),
    (
        "timestamp",
        [1767323045123456789],
        "0acad6b9950daab4de7580c0ff7fbfb4d5c909f0ffff7f02f8ffff7fb5d09df70a",
    ),
    (
        "timestamp_ntz",
        [1767323045500000000],
        "0acad6b9950d8094ebdc0380c0ff7fc6efc59305f0ffff7f02f8ffff7f9797c9dd04",
    ),
    (
        "interval_day_time",
        [{"sec": 90, "nano": 5}],
        "0ab4010a80c0ff7f9196d3b808f0ffff7f02f8ffff7fa0ada2a80c",
    ),
    (
        "decimal(20,4)",
        [decimal.Decimal("12.3400")],
        "0a0731322e3334303080c0ff7f8db1a43cf0ffff7f02f8ffff7fc7f9a39d0a",
    ),
    ("binary", [b"\x00\xff"], "0a0200ff80c0ff7fc2899dab01f0ffff7f02f8ffff7fedca8fc708"),
    (
        "json",
        ['{"j": [1, 2]}'],
        "0a0d7b226a223a205b312c20325d7d80c0ff7fd08492c104f0ffff7f02f8ffff7ffe8fb9a203",
    ),
    (
        "map<string,bigint>",
        [[("k", 1), ("m", None)]],
        "0a0200016b00016d0200020180c0ff7f84b28efa0ff0ffff7f02f8ffff7f8ac3f79a03",
    ),
    (
        "struct<x:bigint,y:string>",
        [{"x": 7, "y": None}],
        "0a000e0180c0ff7fe9c8a1820ef0ffff7f02f8ffff7f84f7a6b102",
    ),
    (
        "array<struct<z:double>>",
        [[{"z": 1.0}, None]],
        "0a020000000000000000f03f0180c0ff7f86f5ec8303f0ffff7f02f8ffff7fcb99cef001",
    ),
]
# What PyODPS's compiled writer sends where it differs: checksums are extended to 64 bits.
SENT: list[tuple[str, list[Any], str]] = [
    (
        "interval_year_month",
        [14],
        "081c80c0ff7f94bbbcdafeffffffff01f0ffff7f02f8ffff7fc5f1eac9f9ffffffff01",
    ),
    (
        "vector(float,2)",
        [[1.0, 2.0]],
        "0a020000803f0000004080c0ff7fd6b4e4f7fbffffffff01f0ffff7f02f8ffff7ff2bcf4e901",
    ),
]


def array_of(text: str, values: list[Any]) -> pa.Array:
    kind = arrow_type(parse_type(text), plain_blobs=True)
    if pa.types.is_timestamp(kind) and values and isinstance(values[0], int):
        return pa.array(values, pa.int64()).view(kind)
    return pa.array(values, kind)


@pytest.mark.parametrize(("text", "values", "stream"), GOLDEN, ids=[each[0] for each in GOLDEN])
def test_known_bytes(text: str, values: list[Any], stream: str) -> None:
    assert encoded([text], [array_of(text, values)]).hex() == stream


@pytest.mark.parametrize(("text", "values", "stream"), [*GOLDEN, *SENT])
def test_known_bytes_come_in(text: str, values: list[Any], stream: str) -> None:
    for step in (1, 5, 1000):
        table = decoded(record_body_decoder(columns(text), ""), bytes.fromhex(stream), step)
        assert table.column(0).combine_chunks().equals(array_of(text, values))


# --- PyODPS's own reader and writer ---------------------------------------------------------------


def _timestamp(nanoseconds: int) -> Any:
    return pytest.importorskip("pandas").Timestamp(nanoseconds)


def _timedelta(nanoseconds: int) -> Any:
    return pytest.importorskip("pandas").Timedelta(nanoseconds)


SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "tinyint": st.integers(-128, 127),
    "smallint": st.integers(-(2**15), 2**15 - 1),
    "int": st.integers(-(2**31), 2**31 - 1),
    # PyODPS keeps the least of them for itself.
    "bigint": st.integers(-(2**63) + 1, 2**63 - 1),
    "boolean": st.booleans(),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "string": st.text(max_size=20),
    "binary": st.binary(max_size=20),
    "decimal(20,4)": st.decimals(-(10**15), 10**15, places=4),
    "decimal(50,2)": st.decimals(-(10**40), 10**40, places=2),
    "date": st.dates(dt.date(1900, 1, 1), dt.date(9999, 1, 1)),
    # Older ones PyODPS refuses unless it is told otherwise.
    "datetime": st.datetimes(dt.datetime(1930, 1, 1)).map(  # noqa: DTZ001  PyODPS has none
        lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    ),
    "timestamp_ntz": st.integers(-(10**18), 2**62).map(_timestamp),
    "interval_day_time": st.integers(-(2**60), 2**60).map(_timedelta),
}


texts = st.recursive(
    st.sampled_from(sorted(SCALARS)),
    lambda inner: st.one_of(
        inner.map(lambda text: f"array<{text}>"),
        st.tuples(st.sampled_from(["string", "bigint"]), inner).map(
            lambda pair: f"map<{pair[0]},{pair[1]}>"
        ),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda parts: "struct<" + ",".join(f"f{n}:{p}" for n, p in enumerate(parts)) + ">"
        ),
    ),
    max_leaves=3,
)


def values_of(odps_type: OdpsType) -> st.SearchStrategy[Any]:
    """What PyODPS takes and gives for a type, or None."""
    code = odps_type.code
    inner = [values_of(field.type) for field in odps_type.fields]
    if code is TypeCode.ARRAY:
        return st.none() | st.lists(inner[0], max_size=4)
    if code is TypeCode.MAP:
        key = SCALARS[str(odps_type.fields[0].type)]
        return st.none() | st.dictionaries(key, inner[1], max_size=3)
    if code is TypeCode.STRUCT:
        return st.none() | st.tuples(*inner)
    return st.none() | SCALARS[str(odps_type)]


def plain(odps_type: OdpsType, value: Any) -> Any:
    """What pyarrow has for a value of PyODPS."""
    if value is None:
        return None
    code = odps_type.code
    kinds = [field.type for field in odps_type.fields]
    if code is TypeCode.ARRAY:
        return [plain(kinds[0], each) for each in value]
    if code is TypeCode.MAP:
        return [(plain(kinds[0], key), plain(kinds[1], each)) for key, each in value.items()]
    if code is TypeCode.STRUCT:
        fields = zip(odps_type.fields, kinds, value, strict=True)
        return {field.name: plain(kind, each) for field, kind, each in fields}
    if code is TypeCode.TIMESTAMP_NTZ:
        return value
    if code is TypeCode.INTERVAL_DAY_TIME:
        seconds, nanos = divmod(value.value, 10**9)
        return {"sec": seconds, "nano": nanos}
    return value


@pytest.fixture(scope="module", autouse=True)
def _in_utc() -> Iterator[None]:
    odps = pytest.importorskip("odps")
    before = odps.options.local_timezone
    odps.options.local_timezone = False
    yield
    odps.options.local_timezone = before


def odps_schema(kinds: list[str]) -> Any:
    models = pytest.importorskip("odps.models")
    schema = models.TableSchema.from_lists([f"c{n}" for n in range(len(kinds))], kinds)
    schema.build_snapshot()
    return schema


def odps_written(schema: Any, rows: list[list[Any]]) -> bytes:
    """The stream that PyODPS writes."""
    record = pytest.importorskip("odps.models").Record
    sent: list[bytes] = []

    def upload(data: Iterator[bytes]) -> Any:
        sent.extend(map(bytes, data))
        return types.SimpleNamespace(headers={})

    writer = pytest.importorskip("odps.tunnel.io.writer").RecordWriter(schema, upload)
    for row in rows:
        writer.write(record(schema=schema, values=row))
    writer.close()
    return b"".join(sent)


def odps_read(schema: Any, data: bytes) -> list[list[Any]]:
    """The rows that PyODPS reads."""

    def open_(cursor: int, **_: Any) -> Any:
        return None if cursor else io.BytesIO(data)

    reader = pytest.importorskip("odps.tunnel.io.reader").TunnelRecordReader(schema, open_)
    return [list(record.values) for record in reader]


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_any_rows_in_both_directions(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(texts, min_size=1, max_size=3))
    parsed = [parse_type(text) for text in kinds]
    rows = data.draw(st.lists(st.tuples(*map(values_of, parsed)).map(list), max_size=6))
    schema = odps_schema(kinds)
    step = data.draw(st.integers(1, 100) | st.just(1 << 20))
    table = decoded(record_body_decoder(columns(*kinds), ""), odps_written(schema, rows), step)
    expected = [
        pa.array([plain(kind, row[at]) for row in rows], arrow_type(kind))
        for at, kind in enumerate(parsed)
    ]
    for result, wanted in zip(table.columns, expected, strict=True):
        assert result.to_pylist() == wanted.to_pylist()
    again = odps_read(schema, encoded(kinds, expected))
    assert [[same(value) for value in row] for row in again] == [
        [same(value) for value in row] for row in rows
    ]


def same(value: Any) -> Any:
    """Values as they compare: PyODPS gives structs as named tuples, and maps in its own class."""
    if isinstance(value, tuple):
        return tuple(map(same, value))
    if isinstance(value, list):
        return list(map(same, value))
    if isinstance(value, dict):
        return {key: same(each) for key, each in value.items()}
    return value


# --- refusals and small things ----------------------------------------------------------------------


def test_columns_of_what_the_service_says() -> None:
    result = tunnel_columns([Column(name="a", type="map<string,bigint>", nullable=False)])
    assert result == (TunnelColumn("a", parse_type("map<string,bigint>"), False),)


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("", ""),
        ("identity", ""),
        ("br, zstd", "zstd"),
        ("zstd;q=0.1, deflate", "deflate"),
        ("X-Snappy-Framed", "x-snappy-framed"),
        ("zstd;q=0", ""),
    ],
)
def test_what_a_reply_is_compressed_with(accepted: str, coding: str) -> None:
    assert reply_coding(accepted) == coding
    assert (tunnel_encoder(coding) is None) == (not coding)


@pytest.mark.parametrize("make", [arrow_body_decoder, record_body_decoder])
def test_a_coding_that_is_not_known(make: Any) -> None:
    with pytest.raises(InvalidParameterError, match="known are deflate"):
        make(columns("bigint"), "br")


@pytest.mark.parametrize(
    ("text", "values", "words"),
    [
        ("string", [b"\xff"], "UTF-8"),
        ("decimal(4,2)", [b"x"], "number"),
        ("decimal(4,2)", [b"123.45"], "number"),
        ("decimal(4,2)", [b"1.234"], "number"),
        ("array<decimal(4,2)>", [[b"1", b"x"]], "number"),
    ],
)
def test_values_that_their_type_does_not_have(text: str, values: list[Any], words: str) -> None:
    other = text.replace("string", "binary").replace("decimal(4,2)", "binary")
    stream = encoded([other], [array_of(other, values)])
    with pytest.raises(InvalidArgumentError, match=words):
        decoded(record_body_decoder(columns(text), ""), stream)


def test_moments_that_nanoseconds_do_not_reach() -> None:
    moment = [{"sec": 1 << 40, "nano": 0}]
    stream = encoded(["interval_day_time"], [array_of("interval_day_time", moment)])
    with pytest.raises(InvalidArgumentError, match="1677 to 2262"):
        decoded(record_body_decoder(columns("timestamp"), ""), stream)


def test_a_type_without_a_form() -> None:
    with pytest.raises(UsageError, match="VARIANT"):
        RecordBodyEncoder([parse_type("variant")])


def test_an_upsert_of_some_columns() -> None:
    kinds = ["bigint", "bigint", "bigint", "tinyint", "array<bigint>", "array<bigint>"]
    values: list[list[Any]] = [[1], [None], [None], [85], [None], [[0]]]
    arrays = [array_of(kind, each) for kind, each in zip(kinds, values, strict=True)]
    with pytest.raises(InvalidArgumentError, match="some columns"):
        decoded(record_body_decoder(columns("bigint"), "", upsert=True), encoded(kinds, arrays))
    arrays[-1] = array_of("array<bigint>", [[]])
    stack = record_body_decoder(columns("bigint"), "", upsert=True)
    table = decoded(stack, encoded(kinds, arrays))
    assert table.to_pydict() == {"c0": [1], "__operation": [85]}


def test_memory_is_asked_for_before_it_is_taken() -> None:
    stack = record_body_decoder(columns("bigint"), "")
    stack.feed(encoded(["bigint"], [pa.array(range(300_000))]))
    events = list(stack.events())
    needs = [n for n, event in enumerate(events) if isinstance(event, MemoryNeed)]
    assert needs
    assert needs[0] == 1  # behind the schema, before any rows


@given(st.binary(max_size=300), st.booleans())
def test_garbage_is_refused_with_our_errors(data: bytes, arrow: bool) -> None:
    kinds = columns("bigint", "array<string>", "timestamp")
    stack = arrow_body_decoder(kinds, "") if arrow else record_body_decoder(kinds, "")
    try:
        result = decoded(stack, data)
    except (WireError, pa.ArrowInvalid, OSError):
        return
    # Four zeros are what PyODPS sends for no batches.
    assert result.num_rows == 0
