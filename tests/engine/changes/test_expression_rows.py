"""SQL expressions over rows: in the rows' order, sealed off from everything else, complaints of ours."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from tests.engine.changes.conftest import MakeTable, seen

from fletching.engine.changes.expression_rows import Evaluator, ExpressionFilter, _Connection
from fletching.errors import InvalidArgumentError

BATCH = pa.record_batch(
    {
        "n": pa.array([3, 1, None, 2]),
        "s": pa.array(["c", "a", None, "b"]),
        "d": pa.array([dt.date(2026, 1, n) for n in (4, 3, 2, 1)]),
    }
)


def values(*expressions: str, batch: pa.RecordBatch = BATCH) -> list[list[Any]]:
    with Evaluator(expressions) as evaluate:
        return [array.to_pylist() for array in evaluate(batch)]


def test_values_stand_in_the_order_of_the_rows() -> None:
    assert values("n * 2", "s || '!'", "7", "n IS NULL") == [
        [6, 2, None, 4],
        ["c!", "a!", None, "b!"],
        [7, 7, 7, 7],
        [False, False, True, False],
    ]
    many = pa.record_batch({"n": pa.array(range(50_000, 0, -1))})
    assert values("n", batch=many) == [list(range(50_000, 0, -1))]


def test_an_order_that_duckdb_changes_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Evaluator._query_of

    def turned(self: Evaluator, connection: Any) -> str:
        return f'{plain(self, connection)} ORDER BY "fletching row" DESC'

    monkeypatch.setattr(Evaluator, "_query_of", turned)
    assert values("n * 2", "s") == [[6, 2, None, 4], ["c", "a", None, "b"]]


def test_each_batch_may_have_other_types() -> None:
    field = pa.field("n", pa.int64())
    with Evaluator(["n"], [(field, "bigint")]) as evaluate:
        (numbers,) = evaluate(pa.record_batch({"n": [1, 2]}))
        # What a text takes is not what a number takes: a cast alone would make 2 of it.
        (read,) = evaluate(pa.record_batch({"n": ["1.5", "4"]}))
    assert numbers.to_pylist() == [1, 2]
    assert [str(each.normalize()) for each in read.to_pylist()] == ["1.5", "4"]


def test_rows_without_columns_are_rows() -> None:
    assert values("1 + 1", batch=BATCH.select([])) == [[2, 2, 2, 2]]
    assert values("n", batch=BATCH.slice(0, 0)) == [[]]


def test_nothing_to_evaluate_needs_no_duckdb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    assert values() == []


def test_without_duckdb_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(ImportError, match=r"fletching\[duckdb\]"), Evaluator(["n"]):
        pass


@pytest.mark.parametrize(
    "expression",
    [
        "s::INTEGER",
        "error('a long story\nover lines')",
        "1 // 'x'",
        "(SELECT count(*) FROM read_csv('/etc/passwd'))",
        "(SELECT count(*) FROM '/etc/passwd')",
        "getenv('HOME')",
        "(SELECT content FROM read_text('/etc/hostname'))",
    ],
)
def test_what_cannot_be_evaluated_is_an_error_of_one_line(expression: str) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be evaluated") as caught:
        values(expression)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400


def test_python_is_out_of_reach() -> None:
    secret = pa.table({"x": [1]})  # noqa: F841 - DuckDB would find it by its name
    with pytest.raises(InvalidArgumentError):
        values("(SELECT x FROM secret)")


def test_an_evaluator_closes_more_than_once() -> None:
    evaluator = Evaluator(["n"])
    with evaluator:
        pass
    evaluator.close()


def test_what_one_opened_the_next_uses_unless_something_went_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[Any] = []
    connect = duckdb.connect

    def counted(*arguments: Any, **options: Any) -> Any:
        opened.append(connect(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(duckdb, "connect", counted)
    monkeypatch.setattr(_Connection, "_idle", [])
    for _ in range(3):
        assert values("n + 1") == [[4, 2, None, 3]]
    assert len(opened) == 1
    with pytest.raises(InvalidArgumentError):
        values("error('spoilt')")
    assert values("n") == [[3, 1, None, 2]]
    assert len(opened) == 2
    # Several at once have one each.
    with Evaluator(["n"]) as evaluator, Evaluator(["n + 1"]) as other:
        assert evaluator(BATCH)[0].to_pylist() != other(BATCH)[0].to_pylist()
    assert len(opened) == 3
    _Connection.close_idle()
    assert values("n") == [[3, 1, None, 2]]
    assert len(opened) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_ends_as_its_parent_does() -> None:
    program = """
import os, sys
import pyarrow as pa
from fletching.engine.changes.expression_rows import Evaluator

def value():
    with Evaluator(["n + 1"]) as evaluate:
        return evaluate(pa.record_batch({"n": pa.array([1])}))[0].to_pylist()

assert value() == [2]
child = os.fork()
assert value() == [2]
if child:
    sys.exit(os.waitpid(child, 0)[1])
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def test_rows_of_one_are_not_seen_by_the_next() -> None:
    assert values("n") == [[3, 1, None, 2]]
    with pytest.raises(InvalidArgumentError):
        values("(SELECT count(*) FROM changed_rows)", "nosuch")
    assert values("(SELECT count(*) FROM changed_rows)", batch=BATCH.slice(0, 1)) == [[1]]


SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string())])


@pytest.mark.parametrize(
    ("text", "columns", "mask"),
    [
        ("n % 2 = 0", ["n"], [True, False, None]),
        ("length(s) > n", ["n", "s"], [False, True, None]),
        ("1 + 1 = 2", ["n"], [True, True, True]),  # rows are counted by some column
    ],
)
def test_a_filter_asks_for_the_columns_that_it_mentions(
    new_table: MakeTable, text: str, columns: list[str], mask: list[bool | None]
) -> None:
    table = new_table(SCHEMA, pa.table({"n": [4, 1, None], "s": ["a", "bc", "d"]}, SCHEMA))

    def look(computed: Any) -> Any:
        view = computed.view
        with ExpressionFilter(text, view.scan_schema, table=table.name) as chosen:
            names = [view.schema.names[index] for index in stored(chosen)]
            batch = pa.record_batch(
                [{"n": pa.array([4, 1, None]), "s": pa.array(["a", "bc", "d"])}[n] for n in names],
                names=names,
            )
            row = view.snapshot.segments[0]
            assert chosen.may_match(row, ())
            assert not chosen.surely_matches(row, ())
            return names, chosen.mask(batch, row.schema_version, (), stored(chosen)).to_pylist()

    def stored(chosen: ExpressionFilter) -> tuple[int, ...]:
        from fletching.engine.reading.physical_projection import stored_columns

        return stored_columns(chosen.projection, schema_version=1)

    assert seen(table, look) == (columns, mask)


def test_a_value_is_no_condition(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, pa.table({"n": [1], "s": ["a"]}, SCHEMA))
    with pytest.raises(InvalidArgumentError, match="no condition"):
        table.delete("n + 1")
