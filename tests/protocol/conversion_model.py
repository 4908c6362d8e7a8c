"""What conversion must do, by Python's exact arithmetic: a second rule, independent of the code's.

A value of any flat type is *denoted* by something that Python compares exactly: a fraction, bytes,
nanoseconds. It may go into another type if that type has a value of the same denotation, which
`holds` answers from the type's definition alone, without Arrow.

``python tests/protocol/conversion_model.py 100000`` compares that many random values.
"""

from __future__ import annotations

import decimal
import math
import random
import struct
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pyarrow as pa

from fletching.errors import UsageError
from fletching.protocol.types.conversion import convert, refusal

Denoted = tuple[str, Any]

DAY = 86_400 * 10**9
UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
INTEGERS = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
]
FLOATS = [pa.float16(), pa.float32(), pa.float64()]
DECIMALS = [
    *(pa.decimal32(7, 2), pa.decimal64(18, 6), pa.decimal128(38, 10), pa.decimal128(5, 0)),
    *(pa.decimal256(76, 0), pa.decimal256(76, 70)),
]
TEXTS = [pa.string(), pa.large_string(), pa.string_view()]
BYTES = [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(3)]
DATES = [pa.date32(), pa.date64()]
MOMENTS = [pa.timestamp(unit) for unit in UNITS]
ZONED = [pa.timestamp("ms", "UTC"), pa.timestamp("ns", "Asia/Kolkata")]
TIMES = [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")]
DURATIONS = [pa.duration(unit) for unit in UNITS]
FLAT = [
    *(pa.bool_(), *INTEGERS, *FLOATS, *DECIMALS, *TEXTS, *BYTES),
    *(*DATES, *MOMENTS, *ZONED, *TIMES, *DURATIONS),
]


# --- what values are ------------------------------------------------------------------------


def counts(data_type: Any) -> int:
    """Nanoseconds of one count of a type of dates or times."""
    if pa.types.is_date32(data_type):
        return DAY
    return UNITS["ms"] if pa.types.is_date64(data_type) else UNITS[data_type.unit]


def denoted(array: Any) -> list[Denoted | None]:
    """The values of an array; read from integers, bytes or Python's own numbers."""
    data_type = array.type
    kind = kind_of(data_type)
    if kind in {"day", "moment", "zoned", "time", "duration"}:
        ints = array.view(pa.int32() if data_type.bit_width == 32 else pa.int64()).to_pylist()
        clock = "moment" if kind == "day" else kind
        return [None if n is None else (clock, n * counts(data_type)) for n in ints]
    outcome: list[Denoted | None] = []
    for value in array.to_pylist():
        if value is None:
            outcome.append(None)
        elif kind == "float":
            number = float(value)
            finite = math.isfinite(number)
            outcome.append(("number", Fraction(number)) if finite else ("special", str(number)))
        elif kind in {"integer", "decimal"}:
            outcome.append(("number", Fraction(value)))
        elif kind == "text":
            outcome.append(("bytes", value.encode()))
        else:
            outcome.append(("bytes" if kind == "bytes" else kind, value))
    return outcome


def kind_of(data_type: Any) -> str:
    for kinds, name in (
        ([pa.bool_()], "truth"),
        (INTEGERS, "integer"),
        (FLOATS, "float"),
        (TEXTS, "text"),
        (DATES, "day"),
    ):
        if data_type in kinds:
            return name
    if pa.types.is_decimal(data_type):
        return "decimal"
    if pa.types.is_timestamp(data_type):
        return "zoned" if data_type.tz else "moment"
    if pa.types.is_time(data_type):
        return "time"
    return "duration" if pa.types.is_duration(data_type) else "bytes"


COMMON = {
    frozenset(pair)
    for pair in (
        *(("integer", "float"), ("integer", "decimal"), ("text", "bytes"), ("day", "moment")),
        *((kind,) for kind in ("truth", "integer", "float", "decimal", "text", "bytes")),
        *((kind,) for kind in ("day", "moment", "zoned", "time", "duration")),
    )
}
"""Kinds that have values in common."""


def binary_float_has(number: Fraction, mantissa: int, least: int, most: int) -> bool:
    """Whether a binary float has a number: mantissa bits, exponent of its smallest bit, and its end."""
    if number == 0:
        return True
    top, bottom = abs(number.numerator), number.denominator
    if bottom & (bottom - 1):
        return False
    exponent = -(bottom.bit_length() - 1)
    shift = (top & -top).bit_length() - 1
    top, exponent = top >> shift, exponent + shift
    return top.bit_length() <= mantissa and exponent >= least and abs(number) < Fraction(2) ** most


def holds(data_type: Any, value: Denoted) -> bool:
    """Whether a type has a value; the kinds are known to have values in common."""
    kind, what = value
    if pa.types.is_integer(data_type):
        bits = data_type.bit_width
        low, high = (
            (-(2 ** (bits - 1)), 2 ** (bits - 1))
            if pa.types.is_signed_integer(data_type)
            else (0, 2**bits)
        )
        return kind == "number" and what.denominator == 1 and low <= what < high
    if pa.types.is_floating(data_type):
        if kind == "special":
            return True
        return binary_float_has(
            what,
            *{16: (11, -24, 16), 32: (24, -149, 128), 64: (53, -1074, 1024)}[data_type.bit_width],
        )
    if pa.types.is_decimal(data_type):
        scaled = what * 10**data_type.scale
        return bool(scaled.denominator == 1 and abs(scaled) < 10**data_type.precision)
    if data_type in TEXTS:
        try:
            what.decode()
        except UnicodeDecodeError:
            return False
        return True
    if kind == "bytes":
        return data_type in BYTES[:3] or len(what) == data_type.byte_width
    if kind == "truth":
        return True
    step = DAY if pa.types.is_date(data_type) else counts(data_type)
    count = what // counts(data_type)
    limit = 2 ** (data_type.bit_width - 1)
    return what % step == 0 and -limit <= count < limit


# --- random values --------------------------------------------------------------------------


def _float_of(width: int, rng: random.Random) -> float:
    code, size = {16: ("e", 2), 32: ("f", 4), 64: ("d", 8)}[width]
    return float(struct.unpack(code, rng.randbytes(size))[0])


def _integer(low: int, high: int, rng: random.Random) -> int:
    """Near an end, near a power of two or ten, near zero, or anywhere."""
    near = rng.choice(
        [
            low, high, 0, 2 ** rng.randrange(1, 128), -(2 ** rng.randrange(1, 128)),
            10 ** rng.randrange(39), -(10 ** rng.randrange(39)), rng.randint(low, high),
            rng.randint(-200, 200), rng.randint(-40, 40) * DAY, rng.randint(-9000, 9000) * 10**9,
        ]
    )  # fmt: skip
    return min(max(near + rng.choice([0, 0, 0, -1, 1]), low), high)


def _bytes(rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return rng.randbytes(rng.randrange(5))
    return rng.choice(["", "abc", "ß", "€", "\x00", "abcd", "名前", "x" * 20]).encode()


def random_array(data_type: Any, length: int, rng: random.Random) -> Any:
    """Values of a type, one in eight of them null."""

    def value() -> Any:
        if pa.types.is_boolean(data_type):
            return rng.random() < 0.5
        if pa.types.is_floating(data_type):
            width = data_type.bit_width
            chosen = _float_of(rng.choice([16, 32, 64]), rng)
            if rng.random() < 0.5:
                chosen = float(_integer(-(2**70), 2**70, rng)) * rng.choice([1, 1, 0.5, 0.1])
            try:
                code = {16: "e", 32: "f", 64: "d"}[width]
                return float(struct.unpack(code, struct.pack(code, chosen))[0])
            except OverflowError:
                return math.inf
        if data_type in TEXTS:
            return _bytes(rng).decode("utf-8", "replace")
        if data_type in BYTES[:3]:
            return _bytes(rng)
        return rng.randbytes(data_type.byte_width)

    def null() -> bool:
        return rng.random() < 0.125

    if pa.types.is_decimal(data_type):
        bound = 10**data_type.precision - 1
        with decimal.localcontext(decimal.Context(prec=100)):
            values: list[Any] = []
            for _ in range(length):
                digits = _integer(-bound, bound, rng)
                zeros = 10 ** rng.choice([0, data_type.scale, data_type.scale // 2])
                digits = (abs(digits) - abs(digits) % zeros) * (1 if digits > 0 else -1)
                number = decimal.Decimal(digits).scaleb(-data_type.scale)
                values.append(None if null() else number)
            return pa.array(values, data_type)
    kind = kind_of(data_type)
    if kind in {"integer", "day", "moment", "zoned", "time", "duration"}:
        bits = data_type.bit_width
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        storage = pa.int32() if bits == 32 else pa.int64()
        if kind == "integer":
            storage = data_type
            if not pa.types.is_signed_integer(data_type):
                low, high = 0, 2**bits - 1
        elif kind == "time":
            low, high = 0, DAY // counts(data_type) - 1
        numbers = [None if null() else _integer(low, high, rng) for _ in range(length)]
        if pa.types.is_date64(data_type):
            numbers = [None if n is None else n // 86_400_000 * 86_400_000 for n in numbers]
            numbers = [n if n is None or n >= low else 0 for n in numbers]
        return pa.array(numbers, storage).view(data_type)
    return pa.array([None if null() else value() for _ in range(length)], data_type)


# --- the comparison -------------------------------------------------------------------------


def expected(array: Any, target: Any) -> list[bool] | None:
    """Per row whether the value goes into the type; None if no value of the types does."""
    if frozenset({kind_of(array.type), kind_of(target)}) not in COMMON:
        return None
    fixed = [t.byte_width for t in (array.type, target) if pa.types.is_fixed_size_binary(t)]
    if len(set(fixed)) > 1:
        return None
    return [value is None or holds(target, value) for value in denoted(array)]


def differences(array: Any, target: Any) -> list[str]:
    """Where the code does not do what this rule says."""
    fits = expected(array, target)
    pair = f"{array.type} to {target}"
    if fits is None:
        return [] if refusal(array.type, target) is not None else [f"{pair}: not refused"]
    if refusal(array.type, target) is not None:
        return [f"{pair}: refused"]
    outcome = []
    if not all(fits):
        try:
            convert(array, target, "c")
            outcome.append(f"{pair}: accepts {denoted(array)[fits.index(False)]}")
        except UsageError as error:
            if f"row {fits.index(False)} " not in error.message:
                outcome.append(f"{pair}: names another row: {error.message}")
    fitting = pa.array([row for row, fit in enumerate(fits) if fit], pa.int64())
    through = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(array.type)
    given = array.cast(through).take(fitting).cast(array.type) if through else array.take(fitting)
    try:
        result = convert(given, target, "c")
        result.validate(full=True)
        if denoted(result) != denoted(given):
            outcome.append(f"{pair}: changes {denoted(given)} to {denoted(result)}")
        if result.type != target:
            outcome.append(f"{pair}: gives {result.type}")
    except UsageError as error:
        outcome.append(f"{pair}: refuses what fits: {error.message} {denoted(given)}")
    return outcome


def compare(values: int, seed: int, report: Callable[[str], None]) -> int:
    """Compares so many random values of random pairs of types; returns how many were compared."""
    rng = random.Random(seed)
    done = 0
    while done < values:
        source = rng.choice(FLAT)
        near = [t for t in FLAT if frozenset({kind_of(source), kind_of(t)}) in COMMON]
        target = rng.choice(near if rng.random() < 0.9 else FLAT)
        array = random_array(source, rng.choice([1, 2, 30]), rng)
        for difference in differences(array, target):
            report(difference)
        done += len(array)
    return done


if __name__ == "__main__":
    shown: list[str] = []
    total = compare(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, shown.append)
    print(*shown[:50], f"{total} values, {len(shown)} differences", sep="\n")
    sys.exit(bool(shown))
