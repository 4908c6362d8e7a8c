"""Quotients and products of DECIMALs beside Python's own decimal arithmetic."""

from __future__ import annotations

import random
from decimal import ROUND_HALF_UP, Decimal, localcontext

import duckdb
import pytest

from fletching.sql.functions.decimals import average, product, quotient
from fletching.sql.functions.sql_types import SqlType, average_type, decimal, quotient_type


def drawn(rand: random.Random, precision: int, scale: int) -> Decimal:
    digits = rand.randint(1, precision)
    return Decimal(rand.randint(-(10**digits) + 1, 10**digits - 1)).scaleb(-scale)


@pytest.mark.parametrize("types", [(10, 2, 10, 2), (18, 6, 5, 0), (38, 18, 10, 4), (20, 10, 14, 7)])
def test_quotients_are_exact(types: tuple[int, int, int, int]) -> None:
    left, right = SqlType("DECIMAL", *types[:2]), SqlType("DECIMAL", *types[2:])
    wanted = quotient_type(left, right)
    rand = random.Random(str(types))
    with duckdb.connect() as connection, localcontext() as context:
        context.prec = 100
        for _ in range(30):
            # Small enough that the result has room before the point.
            a, b = drawn(rand, min(types[0], 24), types[1]), drawn(rand, types[2] - 4, types[3])
            texts = (
                f"CAST('{a:f}' AS {left.duck()})",
                f"CAST('{b:f}' AS {right.duck()})",
            )
            sql = quotient(texts[0], left, texts[1], right)
            unit = Decimal(1).scaleb(-wanted.scale)
            expected = None if b == 0 else (a / b).quantize(unit, ROUND_HALF_UP)
            if expected is not None and abs(expected) >= Decimal(10) ** (38 - wanted.scale):
                continue
            ((result,),) = connection.execute(f"SELECT {sql}").fetchall()
            assert result == expected, (a, b)


def test_products_keep_eighteen_digits_behind_the_point() -> None:
    wide = SqlType("DECIMAL", 38, 18)
    rand = random.Random(5)
    assert decimal(76, 36) == SqlType("DECIMAL", 38, 6)
    with duckdb.connect() as connection, localcontext() as context:
        context.prec = 100
        for _ in range(30):
            a, b = drawn(rand, 26, 18), drawn(rand, 26, 18)
            texts = [f"CAST('{operand:f}' AS DECIMAL(38, 18))" for operand in (a, b)]
            ((result,),) = connection.execute(
                f"SELECT {product(texts[0], wide, texts[1], wide)}"
            ).fetchall()
            assert abs(result - a * b) <= Decimal("0.0000005000000001"), (a, b)


@pytest.mark.parametrize(("precision", "scale"), [(10, 2), (20, 16), (30, 15), (38, 10), (38, 18)])
def test_means_are_exact(precision: int, scale: int) -> None:
    given = SqlType("DECIMAL", precision, scale)
    wanted = average_type(given)
    rand = random.Random(precision)
    with duckdb.connect() as connection, localcontext() as context:
        context.prec = 100
        for count in range(1, 8):
            values = [drawn(rand, min(precision, 30), scale) for _ in range(count)]
            rows = ", ".join(f"(CAST('{value:f}' AS {given.duck()}))" for value in values)
            template = average("x", given).format(distinct="", over="")
            ((result,),) = connection.execute(
                f"SELECT {template} FROM (VALUES {rows}) t(x)"
            ).fetchall()
            unit = Decimal(1).scaleb(-wanted.scale)
            assert result == (sum(values, Decimal(0)) / count).quantize(unit, ROUND_HALF_UP), values
