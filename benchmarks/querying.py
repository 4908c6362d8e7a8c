"""Statements beside DuckDB over the same rows as Arrow arrays in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import fletching
from benchmarks.rounds import Contender, Outcome, Result, compare

__all__ = ["statements"]

_STATEMENTS = {
    "aggregate": "select g, count(*) c, sum(x) s, max(id) m from t group by g order by g",
    "filtered aggregate": "select count(*) c, sum(x) s from t where g between 10 and 19",
    "join": "select count(*) c from t join names n on t.g = n.g where n.name like '%7'",
}


def statements(folder: Path, rows: int, rounds: int) -> list[Result]:
    """Aggregates and a join over a table of ``rows`` rows.

    Args:
        folder: where the table is stored.
        rows: how many; 24 bytes each.
        rounds: measured rounds per contender.
    """
    import duckdb

    data = _rows(rows)
    names = pa.table({"g": range(100), "name": [f"name {number}" for number in range(100)]})
    results: list[Result] = []
    with fletching.connect(folder, create=True) as client, duckdb.connect() as peer:
        for name, table in (("t", data), ("names", names)):
            client.create_table(name, table.schema).append(table)
            peer.register(name, table)
        for case, text in _STATEMENTS.items():
            found = [
                _contender("DuckDB, Arrow in memory", data, peer.sql, text, "to_arrow_table"),
                _contender("fletching, stored table", data, client.sql, text, "to_table"),
            ]
            results += compare("statements", case, found, rounds)
    return results


def _rows(count: int) -> pa.Table:
    rng = np.random.default_rng(1)
    return pa.table(
        {"id": np.arange(count), "g": rng.integers(0, 100, count), "x": rng.random(count)}
    )


def _contender(
    name: str, data: pa.Table, ask: Callable[[str], Any], text: str, collect: str
) -> Contender:
    """Asks a statement and takes its whole result; what counts is the table that it is about."""

    def run(_started: float) -> Outcome:
        getattr(ask(text), collect)()
        return Outcome(data.nbytes, data.num_rows)

    return Contender(name, run)
