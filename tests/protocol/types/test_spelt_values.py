"""What text of CSV and JSON lines stands for, by the type of its column, at every depth."""

from __future__ import annotations

import functools
import io
import json
import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from fletching.protocol.types.row_formats import (
    FileFormat,
    Opened,
    ReadOptions,
    open_csv,
    open_json_lines,
    row_writer,
)
from fletching.protocol.types.spelt_values import read_from_csv, read_from_json, stood_for

NOON = "2026-01-02T12:00:00"
TOKYO = pa.timestamp("ms", "Asia/Tokyo")


def from_json(text: str, kind: pa.DataType) -> pa.Array:
    options = ReadOptions(types=pa.schema([("x", kind)]), only_types=True)
    return _column(open_json_lines(io.BytesIO(f'{{"x":{text}}}\n'.encode()), options))


def from_csv(text: str, kind: pa.DataType) -> pa.Array:
    options = ReadOptions(types=pa.schema([("x", kind)]))
    data = f"x,y\n{text},1\n".encode()
    return _column(open_csv("a file", lambda: io.BytesIO(data), options, ",", again=True))


def _column(opened: Opened) -> pa.Array:
    (batch,) = opened.batches
    assert batch.schema == opened.schema
    batch.validate(full=True)
    return batch.column("x")


@pytest.mark.parametrize(
    ("text", "kind", "spelt"),
    [
        ("0.1", pa.float32(), "0.1"),
        ("1.7976931348623157e308", pa.float64(), "1.7976931348623157e+308"),
        ("4e-324", pa.float64(), "5e-324"),
        ("-0.0", pa.float64(), "-0"),
        ("0e-999", pa.float64(), "0"),
        ("1e-45", pa.float32(), "1e-45"),
        ("0.5", pa.float16(), "0.5"),
        (NOON, pa.timestamp("s"), "2026-01-02 12:00:00"),
        (f"{NOON}+08:00", TOKYO, "2026-01-02 13:00:00.000+0900"),
        (f"{NOON}Z", pa.timestamp("us", "UTC"), "2026-01-02 12:00:00.000000Z"),
        ("2026-01-02", pa.date32(), "2026-01-02"),
        ("2026-01-02", pa.date64(), "2026-01-02"),
        ("12:30:05", pa.time32("s"), "12:30:05"),
        ("12:30:05.25", pa.time64("us"), "12:30:05.250000"),
        ("007", pa.string_view(), "007"),
        ("007", pa.dictionary(pa.int8(), pa.string()), "007"),
    ],
    ids=str,
)
def test_text_is_read_as_the_columns_type(text: str, kind: pa.DataType, spelt: str) -> None:
    number = pa.types.is_floating(kind)
    for array in (from_json(text if number else f'"{text}"', kind), from_csv(text, kind)):
        assert array.cast(pa.string()).to_pylist() == [spelt]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1e39", pa.float32()),
        ("1e-50", pa.float32()),
        ("1e-9", pa.float16()),
        ("1e400", pa.float64()),
        ("-1e400", pa.float64()),
        ("1" * 400, pa.float64()),
        ("1" * 400, pa.dictionary(pa.int8(), pa.float64())),
        ("-1e39", pa.float32()),
        ("70000", pa.float16()),
        (f"{NOON}+08:00", pa.timestamp("ms")),
        (f"{NOON}Z", pa.timestamp("ms")),
        (NOON, TOKYO),
        (NOON, pa.timestamp("us", "UTC")),
        (f"{NOON}.5", pa.timestamp("s")),
        (NOON, pa.date32()),
        (NOON, pa.date64()),
        ("24:00:01", pa.time32("s")),
        ("12:00:00.5", pa.time32("s")),
        ("12:00:00+08:00", pa.time64("us")),
    ],
    ids=str,
)
def test_what_has_no_equal_is_refused(text: str, kind: pa.DataType) -> None:
    spelt = text if pa.types.is_floating(kind) else f'"{text}"'
    attempts: list[Callable[[], pa.Array]] = [
        lambda: from_json(spelt, kind),
        lambda: from_json(f"[null, {spelt}]", pa.list_(kind)),
        lambda: from_json(f'{{"f": {spelt}}}', pa.struct([("f", kind)])),
        lambda: from_csv(text, kind),
    ]
    for attempt in attempts:
        with pytest.raises(pa.ArrowInvalid, match=r"column|Column|CSV|Number too big"):
            attempt()


@pytest.mark.parametrize("again", [True, False], ids=["file", "pipe"])
def test_hexadecimal_digits_are_no_whole_number_but_text(again: bool) -> None:
    def opened(data: bytes, **options: Any) -> Opened:
        given = ReadOptions(**options)
        return open_csv("a file", lambda: io.BytesIO(data), given, ",", again=again)

    data = b"x,y\n0x10,1\n-0XFFFFFFFFFFFFFFFF,2\n7,3\n"
    opened_data = opened(data)
    assert opened_data.schema.types == [pa.string(), pa.int64()]
    (batch,) = opened_data.batches
    assert batch.to_pydict() == {"x": ["0x10", "-0XFFFFFFFFFFFFFFFF", "7"], "y": [1, 2, 3]}
    with pytest.raises(pa.ArrowInvalid, match=r"'x': conversion error: '0x10' is no int8"):
        list(opened(data, types=pa.schema([("x", pa.int8())])).batches)
    # Where the first block was of whole numbers only, the type stays.
    later = opened(b"x,y\n" + b"1,2\n" * 50 + b" 0xFF,2\n", block_bytes=64)
    assert later.schema.types == [pa.int64(), pa.int64()]
    with pytest.raises(pa.ArrowInvalid, match="' 0xFF' is no int64"):
        list(later.batches)
    # In texts, and around whole numbers, nothing is changed.
    mixed = opened(b"x,y\na0x1, 12\t\n0x1z,-3\n,\n")
    (batch,) = mixed.batches
    assert batch.to_pydict() == {"x": ["a0x1", "0x1z", None], "y": [12, -3, None]}


@pytest.mark.parametrize("again", [True, False], ids=["file", "pipe"])
@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["12345678901234567890", "1"], pa.string()),
        (["9007199254740993", "0.5"], pa.string()),
        (["9007199254740992", "0.5"], pa.float64()),
        (["9007199254740993", "1"], pa.int64()),
        (["00501", "10001"], pa.string()),
        (["-01.5", "2"], pa.string()),
        (["0", "-0", "0.5"], pa.float64()),
        (["true", "1", "0"], pa.string()),
        (["TRUE", "false", ""], pa.bool_()),
    ],
    ids=str,
)
def test_texts_stay_texts_where_what_they_are_taken_for_is_another_value(
    texts: list[str], kind: Any, again: bool
) -> None:
    data = "".join(f"{text},x\n" for text in ["a,b", *texts]).replace("a,b,x", "a,b").encode()
    opened = open_csv("a file", lambda: io.BytesIO(data), ReadOptions(), ",", again=again)
    assert opened.schema.field("a").type == kind
    (batch,) = opened.batches
    if kind == pa.string():
        assert batch.column(0).to_pylist() == texts


@pytest.mark.parametrize("again", [True, False], ids=["file", "pipe"])
@pytest.mark.parametrize(
    ("first", "later", "kind"),
    [
        ("0.5", "9007199254740993", pa.float64()),
        ("0.5", "-9223372036854775807", pa.float64()),
        ("1", "00501", pa.int64()),
        ("0.5", "-01.5", pa.float64()),
    ],
)
def test_a_text_that_comes_after_the_type_was_told_is_not_another_value(
    first: str, later: str, kind: Any, again: bool
) -> None:
    data = b"a,b\n" + f"{first},x\n".encode() * 100
    for text, is_refused in ((later, True), ("7", False), ("9007199254740992", False)):
        lines = data + f"{text},x\n".encode()
        opened = open_csv(
            "a file",
            functools.partial(io.BytesIO, lines),
            ReadOptions(block_bytes=64),
            ",",
            again=again,
        )
        assert opened.schema.field("a").type == kind
        if is_refused:
            with pytest.raises(
                pa.ArrowInvalid, match=f"'a': .*'{later}' is no {kind}, as .*--types"
            ):
                list(opened.batches)
        else:
            assert sum(batch.num_rows for batch in opened.batches) == 101


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}\n{"a": 12345678901234567890}',
        '{"a": [0.5, {"b": -9223372036854775809}]}',
        '{"b": "' + "x" * 300 + '", "a": {"c": 12345678901234567890123}}',
    ],
)
def test_whole_numbers_of_json_that_no_type_has_are_refused(text: str) -> None:
    with pytest.raises(pa.ArrowInvalid, match=r"column .a.: conversion error: .* has no"):
        list(open_json_lines(io.BytesIO(text.encode() + b"\n"), ReadOptions()).batches)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("9223372036854775807", None),
        ("-9223372036854775808", None),
        ("18446744073709551616", None),
        ("1234567890123456789.5", None),
        ('"12345678901234567890"', None),
        ("12345678901234567168", pa.float64()),
        ("12345678901234567890", pa.uint64()),
    ],
)
def test_numbers_of_json_that_a_type_has_are_read(value: str, kind: Any) -> None:
    types = None if kind is None else pa.schema([("a", kind)])
    data = f'{{"a": {value}}}\n'.encode()
    (batch,) = open_json_lines(io.BytesIO(data), ReadOptions(types=types)).batches
    assert batch.column(0)[0].as_py() == json.loads(value)


def test_ones_are_truths_where_the_type_says_so() -> None:
    assert from_csv("1", pa.bool_()).to_pylist() == [True]


@pytest.mark.parametrize("text", ["1e400", "-1e400", "1" * 400])
def test_a_number_that_no_double_holds_is_refused_where_the_type_is_told(text: str) -> None:
    data = f"x,y\n0.5,1\n{text},1\n".encode()
    for again in (True, False):  # a file, and a pipe
        opened = open_csv("a file", lambda: io.BytesIO(data), ReadOptions(), ",", again=again)
        assert opened.schema.field("x").type == pa.float64()
        with pytest.raises(pa.ArrowInvalid, match="'x': conversion error"):
            list(opened.batches)
    with pytest.raises(pa.ArrowInvalid):
        list(open_json_lines(io.BytesIO(f'{{"x":[0.5,{text}]}}\n'.encode()), ReadOptions()).batches)


def test_what_is_smaller_than_any_double_is_not_zero_in_csv() -> None:
    for text in ("1e-400", "-1e-400", "0." + "0" * 400 + "1"):
        with pytest.raises(pa.ArrowInvalid, match="too small for double"):
            from_csv(text, pa.float64())


def test_infinities_and_blanks_are_read_as_they_were() -> None:
    assert from_csv("inf", pa.float64()).to_pylist() == [math.inf]
    assert from_csv("-Infinity", pa.float32()).to_pylist() == [-math.inf]
    assert from_csv(" 1.5\t", pa.float64()).to_pylist() == [1.5]
    assert from_csv('"1.5"', pa.float64()).to_pylist() == [1.5]
    assert from_csv("", pa.float64()).to_pylist() == [None]
    assert from_json("Infinity", pa.float64()).to_pylist() == [math.inf]
    assert math.isnan(from_csv("NaN", pa.float64())[0].as_py())
    for text in ("x", "1.5.5", '""', "1e", "0x10", "nan(1)"):
        with pytest.raises(pa.ArrowInvalid, match="'x': conversion error"):
            from_csv(text, pa.float64())


def test_json_lines_with_numbers_below_any_double_are_refused() -> None:
    for kind in (pa.float64(), pa.float32(), None):
        types = pa.schema([("x", kind)]) if kind is not None else None
        with pytest.raises(pa.ArrowInvalid, match="1e-400 is too small"):
            list(
                open_json_lines(
                    io.BytesIO(b'{"x":1}\n{"x":1e-400}\n'), ReadOptions(types=types)
                ).batches
            )


def test_bytes_are_base64_in_json_at_every_depth() -> None:
    kind: Any
    for kind in (pa.binary(), pa.large_binary(), pa.binary(1), pa.binary_view()):
        assert from_json('"YQ=="', kind).to_pylist() == [b"a"]
        assert from_json('["YQ==", null]', pa.list_(kind)).to_pylist() == [[b"a", None]]
        nested = pa.struct([("f", pa.list_(pa.struct([("g", kind)])))])
        result = from_json('{"f": [{"g": "YQ=="}, null]}', nested).to_pylist()
        assert result == [{"f": [{"g": b"a"}, None]}]
        with pytest.raises(pa.ArrowInvalid, match=r"'x\.element' is not base64"):
            from_json('["!"]', pa.list_(kind))


def test_what_is_written_as_json_lines_is_read() -> None:
    table = pa.table(
        {
            "moment": pa.array([1, None, 3], pa.timestamp("us")),
            "zoned": pa.array([1, None, 3], TOKYO),
            "time": pa.array([1, None, 3], pa.time32("s")),
            "nested": pa.array(
                [[{"b": b"\0", "d": 1, "t": 5}], None, []],
                pa.list_(
                    pa.struct([("b", pa.binary()), ("d", pa.date32()), ("t", pa.time64("ns"))])
                ),
            ),
            "number": pa.array([0.1, None, -0.0], pa.float32()),
        }
    )
    sink = io.BytesIO()
    writer = row_writer(sink, table.schema, FileFormat.JSONL)
    for batch in table.to_batches(max_chunksize=2):
        writer.write_batch(batch)
    writer.close()
    sink.seek(0)
    opened = open_json_lines(sink, ReadOptions(types=table.schema, only_types=True))
    assert opened.schema == table.schema
    assert pa.Table.from_batches(list(opened.batches)).equals(table)


def test_what_is_it_already_is_not_copied() -> None:
    array = pa.array([1, 2])
    assert stood_for(array, pa.int64(), "x") is array
    assert read_from_json(pa.int64()) == pa.int64()
    assert read_from_csv(pa.bool_()) == pa.bool_()
    for reported in (
        pa.month_day_nano_interval(),
        pa.duration("s"),
        pa.list_(pa.int8()),
        pa.null(),
        pa.struct([]),
    ):
        assert read_from_csv(reported) is None
