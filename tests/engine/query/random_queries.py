"""Random queries in MaxCompute's dialect and in DuckDB's, over two tables of the same columns."""

from __future__ import annotations

import random

import pyarrow as pa

__all__ = ["QueryWriter", "shared_rows"]

Pair = tuple[str, str]


def shared_rows(rand: random.Random, count: int) -> pa.Table:
    """Rows with nulls, repeated keys and a partition column."""

    def pick(values: list[object]) -> list[object]:
        return [rand.choice(values) for _ in range(count)]

    return pa.table(
        {
            "k": pa.array(pick([None, 1, 2, 3, 4, 5, 6]), pa.int64()),
            "n": pa.array(
                [None if i % 7 == 0 else i * 3 % 20 - 5 for i in range(count)], pa.int32()
            ),
            "x": pa.array(pick([None, 0.5, -1.25, 2.0, 8.0]), pa.float64()),
            "s": pa.array(pick([None, "", "ab", "abc", "b%", "zz"]), pa.string()),
            "f": pa.array(pick([None, True, False]), pa.bool_()),
            "pt": pa.array(pick(["p1", "p2", "p3"]), pa.string()),
        }
    )


class QueryWriter:
    """Writes one query in both dialects; rows come in any order."""

    def __init__(self, rand: random.Random) -> None:
        """Draws from ``rand``."""
        self.rand = rand

    def query(self) -> Pair:
        """A query of one of several shapes."""
        rand = self.rand
        shape = rand.randrange(8)
        where = self.condition("a", 2)
        if shape == 0:
            return self._both("select k, n, x, s from a where {}", where)
        if shape == 1:
            aggregates = "count(*), count(n), sum(n), min(x), max(s), count(distinct k), sum(k) + 1"
            having = rand.choice(["", " having count(*) > 1", " having sum(n) is not null"])
            return self._both(
                f"select pt, {aggregates} from a where {{}} group by pt{having}", where
            )
        join = rand.choice(["join", "left join", "right join", "full join"])
        on = rand.choice(["a.k = b.k", "a.k = b.k and b.n > 0", "a.k = b.k and a.s = 'ab'"])
        if shape == 2:
            other = self.condition(rand.choice(["a", "b"]), 1)
            return self._both(
                f"select a.k, a.s, b.n, b.pt from a {join} b on {on} where {{}}", other
            )
        if shape == 3:
            kind = rand.choice(["semi", "anti"])
            ours = f"select a.k, a.n from a left {kind} join b on {on} where {where[0]}"
            return ours, f"select a.k, a.n from a {kind} join b on {on} where {where[1]}"
        if shape == 4:
            word = rand.choice(["in", "not in"])
            inner = self.condition("b", 1)
            ours = f"select k, n from a where {where[0]} and k {word} (select k from b where {inner[0]})"
            theirs = f"select k, n from a where {where[1]} and k {word} (select k from b where {inner[1]})"
            return ours, theirs
        if shape == 5:
            operation = rand.choice(["union all", "union", "intersect", "except"])
            inner = self.condition("b", 1)
            return (
                f"select k, s from a where {where[0]} {operation} select k, s from b where {inner[0]}",
                f"select k, s from a where {where[1]} {operation} select k, s from b where {inner[1]}",
            )
        if shape == 6:
            return self._both(
                "with c as (select pt, k, sum(n) t from a where {} group by pt, k)"
                " select c.pt, c.t, b.s from c join b on c.k = b.k and c.pt = b.pt",
                where,
            )
        return self._both(
            "select k, n, sum(n) over (partition by pt order by n, k, x, s, f"
            " rows between unbounded preceding and current row) from a where {}",
            where,
        )

    @staticmethod
    def _both(template: str, condition: Pair) -> Pair:
        return template.format(condition[0]), template.format(condition[1])

    def condition(self, table: str, depth: int) -> Pair:
        """A condition on the columns of a table."""
        rand = self.rand
        if depth and rand.random() < 0.5:
            word = rand.choice([" and ", " or "])
            parts = [self.condition(table, depth - 1) for _ in range(2)]
            ours, theirs = (word.join(f"({part[i]})" for part in parts) for i in range(2))
            return (f"not ({ours})", f"not ({theirs})") if rand.random() < 0.2 else (ours, theirs)
        t = f"{table}."
        return rand.choice(
            [
                self._same(f"{t}k = {rand.randint(0, 7)}"),
                self._same(f"{t}k in (1, {rand.randint(0, 7)}, null)"),
                self._same(f"{t}n between {rand.randint(-5, 5)} and 9"),
                self._same(f"{t}x > {rand.choice(['0', '0.5', '-1.25', '2e0'])}"),
                self._same(f"{t}x <= 2"),
                self._same(f"{t}s like 'ab%'"),
                self._same(f"{t}s is {rand.choice(['', 'not '])}null"),
                self._same(f"{t}pt = 'p{rand.randint(1, 4)}'"),
                self._same(f"{t}pt > 'p1'"),
                self._same(f"{t}f"),
                self._same(f"length({t}s) = 2"),
                self._same(f"{t}n + {t}k > 6"),
                (f"{t}k <=> null", f"{t}k is not distinct from null"),
                (f"{t}s rlike '^a'", f"regexp_matches({t}s, '^a')"),
                (f"nvl({t}n, 3) = 3", f"coalesce({t}n, 3) = 3"),
                (f"concat({t}s, '!') = 'ab!'", f"{t}s || '!' = 'ab!'"),
                (f"{t}n / 2 > 1.5", f"{t}n / 2 > 1.5"),
                (f"{t}pt = max_pt('{table}')", f"{t}pt = (select max(pt) from {table})"),
            ]
        )

    @staticmethod
    def _same(text: str) -> Pair:
        return text, text
