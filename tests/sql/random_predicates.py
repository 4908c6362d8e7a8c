"""Random predicates, each in the dialect of filters and in DuckDB's, and random rows for them.

Run as a module it compares as many as it is told to::

    python -m tests.sql.random_predicates 100000 [seed]
"""

from __future__ import annotations

import datetime as dt
import math
import random
import sys
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
from pyarrow import acero

from fletching.engine.tables.statistics import StatisticsBuilder, column_key, read_statistics
from fletching.errors import FletchingError
from fletching.sql.predicates.predicate_compiler import ColumnBounds, compile_predicate

DOUBLES = [0.0, -0.0, 0.1, 0.5, 1.0, -1.5, 2.0, 1e23, math.inf, -math.inf, math.nan, None]
INNER = pa.struct([("x", pa.float64()), ("n", pa.int32())])
STRUCT = pa.struct([("a", pa.int64()), ("b", pa.string()), ("c", INNER)])

Pair = tuple[str, str]
"""A condition as filters write it, and as DuckDB does."""


def rows(rand: random.Random, count: int) -> pa.Table:
    """A table with a column of every comparable type, nulls and odd values among them."""

    def pick(values: list[Any]) -> list[Any]:
        return [rand.choice(values) for _ in range(count)]

    inner: list[Any] = [None, {"x": 0.1, "n": 1}, {"x": math.nan, "n": None}, {"x": None, "n": 2}]
    structs = [
        None,
        *(
            {"a": a, "b": b, "c": rand.choice(inner)}
            for a, b in [(1, "x"), (None, "a%"), (3, None), (-1, "")]
        ),
    ]
    day = dt.date(2024, 2, 29)
    moment = dt.datetime.fromisoformat("2024-02-29 12:00:00")
    moments = [None, moment, moment + dt.timedelta(seconds=1), moment.replace(1969, 12, 31)]
    return pa.table(
        {
            "i": pa.array(pick([None, 0, 1, 2, -128, 127]), pa.int8()),
            "j": pa.array(pick([None, 0, 1, 2, 300, -(2**31)]), pa.int32()),
            "big": pa.array(pick([None, 0, 1, 2**53, 2**53 + 1, -(2**63), 2**63 - 1]), pa.int64()),
            "u": pa.array(pick([None, 0, 1, 2**53 + 1, 2**64 - 1]), pa.uint64()),
            "f": pa.array(pick(DOUBLES), pa.float32()),
            "x": pa.array(pick(DOUBLES), pa.float64()),
            "dec": pa.array(
                pick([None, Decimal("0.10"), Decimal("-1.50"), Decimal("2.00")]),
                pa.decimal128(10, 2),
            ),
            "wide": pa.array(
                pick([None, Decimal("0.1"), Decimal("1e15"), Decimal("-0.00001")]),
                pa.decimal128(30, 5),
            ),
            "s": pa.array(
                pick([None, "", "a", "ab", "a%", "a_b", "b\\", "O'B", "a\nb"]), pa.string()
            ),
            "b": pa.array(pick([None, True, False]), pa.bool_()),
            "d": pa.array(
                pick([None, day, day + dt.timedelta(days=1), dt.date(1969, 12, 31)]), pa.date32()
            ),
            "us": pa.array(pick(moments), pa.timestamp("us")),
            "ms": pa.array(pick(moments), pa.timestamp("ms")),
            "bin": pa.array(pick([None, b"", b"a", b"\x00\xff"]), pa.binary()),
            "st": pa.array(pick(structs), STRUCT),
        }
    )


class Writer:
    """Writes conditions in both dialects."""

    def __init__(self, rand: random.Random) -> None:
        """Draws from ``rand``."""
        self.rand = rand

    def condition(self, depth: int) -> Pair:
        """A condition of at most so many levels."""
        rand = self.rand
        if depth == 0 or rand.random() < 0.3:
            return self.leaf()
        kind = rand.randrange(4)
        if kind == 0:
            ours, theirs = self.condition(depth - 1)
            return f"NOT ({ours})", f"NOT ({theirs})"
        word = " AND " if kind < 3 else " OR "
        parts = [self.condition(depth - 1) for _ in range(rand.randint(2, 4))]
        return (
            word.join(f"({ours})" for ours, _ in parts),
            word.join(f"({theirs})" for _, theirs in parts),
        )

    def leaf(self) -> Pair:
        """A comparison, list, range, pattern or question about nulls."""
        rand = self.rand
        name, literals, floating = rand.choice(COLUMNS)
        kind = rand.randrange(10)
        if kind == 0:
            text = f"{name} IS {rand.choice(['', 'NOT '])}NULL"
            return text, text
        if kind == 1 and name in NUMBERS:
            other = rand.choice(NUMBERS)
            return self.compared(name, name, other, other, floating=True)
        if kind == 1 and name in TIMES:
            other = rand.choice(TIMES)
            return self.compared(name, name, other, other, floating=False)
        if kind == 2:
            negation = rand.choice(["", "NOT "])
            drawn = [self.literal(literals) for _ in range(rand.randint(1, 4))]
            if rand.random() < 0.1:
                drawn.append(("NULL", "NULL"))
            ours = f"{name} {negation}IN ({', '.join(ours for ours, _ in drawn)})"
            equal = " OR ".join(
                f"({self.compared(name, name, *child, floating=floating, operator='=')[1]})"
                for child in drawn
            )
            return ours, f"{negation}({equal})"
        if kind == 3:
            low, high = self.literal(literals), self.literal(literals)
            negation = rand.choice(["", "NOT "])
            first = self.compared(name, name, *low, floating=floating, operator=">=")[1]
            second = self.compared(name, name, *high, floating=floating, operator="<=")[1]
            ours = f"{name} {negation}BETWEEN {low[0]} AND {high[0]}"
            return ours, f"{negation}(({first}) AND ({second}))"
        if kind == 4 and name == "s":
            return self.like()
        if kind == 5 and floating:
            text = f"isnan({name})"
            return text, text
        if kind == 6:
            ours, theirs = self.literal(literals)
            same = self.compared(name, name, ours, theirs, floating=floating, operator="=")[1]
            return f"{name} <=> {ours}", f"coalesce({same}, false)"
        return self.compared(name, name, *self.literal(literals), floating=floating)

    def literal(self, literals: list[Pair]) -> Pair:
        """One of some literals."""
        return self.rand.choice(literals)

    def compared(
        self,
        ours: str,
        theirs: str,
        our_value: str,
        their_value: str,
        *,
        floating: bool,
        operator: str = "",
    ) -> Pair:
        """A comparison; NaN compares with nothing, where DuckDB has it equal to itself and greatest."""
        operator = operator or self.rand.choice(["=", "<>", "<", "<=", ">", ">="])
        their_text = f"{theirs} {operator} {their_value}"
        if floating:
            answer = "true" if operator == "<>" else "false"
            nan = f"isnan({theirs}::DOUBLE) OR isnan(({their_value})::DOUBLE)"
            missing = f"{theirs} IS NULL OR ({their_value}) IS NULL"
            their_text = (
                f"CASE WHEN {missing} THEN NULL WHEN {nan} THEN {answer} ELSE {their_text} END"
            )
        return f"{ours} {operator} {our_value}", their_text

    def like(self) -> Pair:
        """A pattern, with either escape."""
        pattern = self.rand.choice(["a%", "%", "_", "a\\%", "", "%b", "a_b", "a\\_b", "b\\\\"])
        negation = self.rand.choice(["", "NOT "])
        theirs = f"s {negation}LIKE '{pattern}' ESCAPE '\\'"
        if self.rand.random() < 0.3:
            other = pattern.replace("\\", "!")
            if "!!" not in other:
                return f"s {negation}LIKE '{other}' ESCAPE '!'", theirs
        doubled = pattern.replace("\\", "\\\\")
        return f"s {negation}LIKE '{doubled}'", theirs


def _same(*texts: str) -> list[Pair]:
    return [(text, text) for text in texts]


INTEGERS = [
    *_same("0", "1", "-1", "2", "127", "300", "'1'"),
    ("1L", "1::BIGINT"),
    ("2Y", "2::TINYINT"),
    ("1.5", "1.5"),
    ("2.0", "2.0"),
    ("0.5D", "0.5::DOUBLE"),
    ("1e0", "1e0::DOUBLE"),
    ("9007199254740992D", "9007199254740992::DOUBLE"),
]
FLOATS = [
    *_same("0", "-0.0", "1", "0.1", "-1.5", "0.5"),
    ("0.1D", "0.1::DOUBLE"),
    ("1e23", "1e23::DOUBLE"),
    ("1e-1", "1e-1::DOUBLE"),
    ("CAST('nan' AS DOUBLE)", "'nan'::DOUBLE"),
    ("CAST('-inf' AS DOUBLE)", "'-inf'::DOUBLE"),
    ("CAST('Infinity' AS DOUBLE)", "'inf'::DOUBLE"),
    ("1.5BD", "1.5"),
]
DECIMALS = [
    *_same("0", "0.1", "0.10", "-1.5", "2", "1.005", "1000000000000000", "-0.00001"),
    ("0.1BD", "0.1"),
    ("0.1D", "0.1::DOUBLE"),
    ("1e15", "1e15::DOUBLE"),
]
TEXTS = [
    *_same("''", "'a'", "'ab'", "'zz'"),
    ("'O\\'B'", "'O''B'"),
    ('"a"', "'a'"),
    ("'b\\\\'", "'b\\'"),
    ("'a\\nb'", "'a\nb'"),
]
DAYS = [
    ("DATE '2024-02-29'", "DATE '2024-02-29'"),
    ("'2024-3-1'", "DATE '2024-03-01'"),
    ("TIMESTAMP '2024-02-29 12:00:00'", "TIMESTAMP '2024-02-29 12:00:00'"),
    ("DATETIME '1969-12-31 00:00:00'", "TIMESTAMP '1969-12-31 00:00:00'"),
]
MOMENTS = [
    *DAYS,
    ("'2024-02-29T12:00:01Z'", "TIMESTAMP '2024-02-29 12:00:01'"),
    ("'2024-02-29 20:00:00+08:00'", "TIMESTAMP '2024-02-29 12:00:00'"),
    ("TIMESTAMP '2024-02-29 12:00:00.0005'", "TIMESTAMP '2024-02-29 12:00:00.0005'"),
]
COLUMNS: list[tuple[str, list[Pair], bool]] = [
    ("i", INTEGERS, False),
    ("j", INTEGERS, False),
    ("big", INTEGERS, False),
    ("u", INTEGERS, False),
    ("f", FLOATS, True),
    ("x", FLOATS, True),
    ("dec", DECIMALS, False),
    ("wide", DECIMALS, False),
    ("s", TEXTS, False),
    ("b", _same("true", "false"), False),
    ("d", DAYS, False),
    ("us", MOMENTS, False),
    ("ms", MOMENTS, False),
    ("bin", [("X'00ff'", "'\\x00\\xff'::BLOB"), ("'a'", "'a'::BLOB"), ("X''", "''::BLOB")], False),
    ("st.a", INTEGERS, False),
    ("st.b", TEXTS, False),
    ("st.c.x", FLOATS, True),
    ("st.c.n", INTEGERS, False),
]
NUMBERS = ["i", "j", "big", "u", "f", "x", "dec", "st.a", "st.c.x", "st.c.n"]
TIMES = ["d", "us", "ms"]


def disagreements(seed: int, count: int) -> list[str]:
    """Conditions on which the two differ, or whose rows pruning would lose."""
    rand = random.Random(seed)
    result: list[str] = []
    connection = duckdb.connect()
    try:
        done = 0
        while done < count:
            table = rows(rand, rand.choice([1, 2, 3, 8, 20]))
            fields = {field.name: field for field in table.schema}
            builder = StatisticsBuilder(table.schema)
            for batch in table.to_batches():
                builder.add(batch.columns)
            known = read_statistics(builder.encode())
            connection.register("t", table)
            writer = Writer(rand)
            pairs = [
                writer.condition(rand.choice([0, 0, 1, 2])) for _ in range(min(50, count - done))
            ]
            done += len(pairs)
            theirs = connection.execute(
                f"SELECT {', '.join(f'({text})' for _, text in pairs)} FROM t"
            ).fetchall()
            for number, (text, their_text) in enumerate(pairs):
                expected = [row[number] for row in theirs]
                try:
                    predicate = compile_predicate(text, fields)
                except FletchingError as error:
                    result.append(f"{text}: refused: {error.message}")
                    continue
                received = evaluated(table, predicate.expression)

                def bounds(path: tuple[str, ...], known: Any = known) -> ColumnBounds | None:
                    column = known.get(column_key(path))
                    return column and ColumnBounds(
                        column.lower, column.upper, column.nulls, column.values, column.unordered
                    )

                if received != expected:
                    result.append(f"{text}: {received}, {their_text}: {expected}")
                elif True in received and not predicate.may_match(bounds):
                    result.append(f"{text}: pruned, though rows match")
            connection.unregister("t")
    finally:
        connection.close()
    return result


def evaluated(table: pa.Table, expression: Any) -> list[bool | None]:
    """A condition's answers for a table's rows."""
    source = acero.Declaration("table_source", acero.TableSourceNodeOptions(table))
    mask = acero.ProjectNodeOptions([expression], ["chosen"])
    result = acero.Declaration("project", mask, inputs=[source]).to_table(use_threads=False)
    answers: list[bool | None] = result.column(0).to_pylist()
    return answers


if __name__ == "__main__":
    answers = disagreements(int(sys.argv[2]) if len(sys.argv) > 2 else 1, int(sys.argv[1]))
    print(f"{len(answers)} disagreements")
    print("\n".join(answers[:20]))
    sys.exit(bool(answers))
