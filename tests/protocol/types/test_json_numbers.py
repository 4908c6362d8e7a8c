"""Numbers of JSON lines that would be read as others are refused, whatever block they come in."""

from __future__ import annotations

import functools
import io

import pyarrow as pa
import pytest

from fletching.protocol.types.json_numbers import LongNumbers
from fletching.protocol.types.row_formats import ReadOptions, open_json_lines


@pytest.mark.parametrize("block_bytes", [64, 1 << 20])
@pytest.mark.parametrize(
    ("line", "path"),
    [
        ('{"a": 0.5, "b": {"c": [1, 2]}}', None),
        ('{"a": 9007199254740993, "b": {"c": [1, 2]}}', "a"),
        ('{"a": -9223372036854775807, "b": {"c": [1, 2]}}', "a"),
        ('{"a": 9007199254740992, "b": {"c": [9007199254740993]}}', None),
        ('{"a": 9007199254740993.0, "b": {"c": [1]}}', None),
        ('{"a": 1e17, "b": {"c": [1, -9007199254740993]}, "t": "9007199254740993"}', None),
    ],
)
def test_a_whole_number_of_json_is_not_the_double_beside_it(
    block_bytes: int, line: str, path: str | None
) -> None:
    lines = b'{"a": 0.5, "b": {"c": [1]}, "t": ""}\n' * 100 + line.encode() + b"\n"

    def rows() -> int:
        opened = open_json_lines(io.BytesIO(lines), ReadOptions(block_bytes=block_bytes))
        return sum(batch.num_rows for batch in opened.batches)

    if path is None:
        assert rows() == 101
        return
    with pytest.raises(pa.ArrowInvalid, match=f"column '{path}': .* has no equal in double"):
        rows()


def test_doubles_of_json_are_looked_at_in_every_depth() -> None:
    inside = b'{"a": {"b": [0.5, 9007199254740993]}}\n'
    with pytest.raises(pa.ArrowInvalid, match=r"'a.b.element'"):
        list(open_json_lines(io.BytesIO(inside), ReadOptions()).batches)
    # A type that was given is of who gave it: the nearest value.
    types = pa.schema([("a", pa.float64())])
    (batch,) = open_json_lines(
        io.BytesIO(b'{"a": 9007199254740993}\n'), ReadOptions(types=types)
    ).batches
    assert batch.column(0).to_pylist() == [9007199254740992.0]


@pytest.mark.parametrize("size", [1, 100, 308, 1000, -1])
@pytest.mark.parametrize("start", [0, 1, 127, 128, 700])
@pytest.mark.parametrize("digits", [308, 309])
def test_long_numbers_are_noticed_wherever_they_stand(size: int, start: int, digits: int) -> None:
    data = b"," * start + b"7" * digits + b"," * 900
    watched = LongNumbers(io.BytesIO(data))
    assert b"".join(iter(lambda: watched.read(size), b"")) == data
    assert watched.has_long_numbers == (digits == 309)
    assert not watched.closed
    watched.close()
    assert watched.closed


@pytest.mark.parametrize(
    "begin", [b"\xef", b"\xbb", b"\xbf", b"\xef\xbb", b"\xbb\xbf", b"\xef\xbf"]
)
def test_a_part_of_a_byte_order_mark_is_no_json(begin: bytes) -> None:
    with pytest.raises(pa.ArrowInvalid, match="begins with a byte that is no UTF-8"):
        LongNumbers(io.BytesIO(begin + b'{"a":1}\n')).read(1 << 20)
    for whole in (b"", b"\xef\xbb\xbf"):
        assert LongNumbers(io.BytesIO(whole + b"{}\n")).read(1 << 20) == whole + b"{}\n"


TINY = (
    "1e-400",
    "-1E-400",
    "0.001e-0322",
    "1e-" + "9" * 60,
    "0." + "0" * 400 + "1",
    "0." + "0" * 230 + "1e-99",
)
NOT_TINY = (
    *("0e-400", "-0.0e-999", "0.000E-400", "5e-324", "12345e-327", "1e-300", "1e-99", "1.5"),
    *(f'"{text}"' for text in TINY),
    *('"a \\" 1e-400"', '"service-4000"', "0." + "0" * 400, "[1e-300, 0e-400]", '{"1e-400": null}'),
)


@pytest.mark.parametrize("size", [31, 1 << 20])
def test_what_is_smaller_than_any_double_is_not_zero_in_json(size: int) -> None:
    def read(data: bytes) -> bytes:
        watched = LongNumbers(io.BytesIO(data))
        return b"".join(iter(lambda: watched.read(size), b""))

    for end in (b"\n", b""):
        for text in NOT_TINY:
            data = b'{"x":0}\n{"y":%s}' % text.encode() + end
            assert read(data) == data
        for text in TINY:
            for form in (
                b'{"x":%s}',
                b'{"x": [{"y": "z", "x": [1, %s ]}]}',
                b'{"x":"1e-500","y":%s}',
            ):
                lines = form % text.encode() + end
                with pytest.raises(pa.ArrowInvalid, match=f"{text[:50]}.* is too small for double"):
                    read(b'{"x":"1e-450"}\n' + lines)
    for broken in (b"{1e-400\n", b"[" * 3000 + b"1e-400\n"):
        assert read(broken) == broken  # is the reader's


@pytest.mark.parametrize("size", [1, 2, 3, 16, 17, 18, -1])
@pytest.mark.parametrize("wrong", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98"])
def test_bytes_that_are_no_utf8_are_refused_by_their_line(size: int, wrong: bytes) -> None:
    lines = '{"a": "é\U0001f600"}\n'.encode() * 2
    watched = LongNumbers(io.BytesIO(lines))
    assert b"".join(iter(lambda: watched.read(size), b"")) == lines
    for end in (b'"}\n', b""):
        watched = LongNumbers(io.BytesIO(lines + b'{"a": "' + wrong + end))
        with pytest.raises(pa.ArrowInvalid, match="line 3 is no UTF-8"):
            list(iter(functools.partial(watched.read, size), b""))
