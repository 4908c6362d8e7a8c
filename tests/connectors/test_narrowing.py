"""A scan made narrower: conditions are joined, never put below a limit, and what is not pushed is evaluated here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import fletching
from fletching.client import Table
from fletching.connectors.narrowing import (
    filtered_batches,
    narrowed,
    narrowest,
    scan_of,
    without_views,
)
from fletching.errors import UsageError

ROWS = pa.table(
    {"n": range(20), "s": [f"s{n}" for n in range(20)], "b": [n % 2 == 0 for n in range(20)]}
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    folder: Path = tmp_path_factory.mktemp("narrow")
    with fletching.connect(folder / "data", create=True) as client:
        made = client.create_table("t", ROWS.schema)
        made.append(ROWS)
        yield made


def test_what_is_read(table: Table) -> None:
    scan = table.scan()
    assert scan_of(scan) is scan
    assert scan_of(table).to_table().num_rows == 20
    other: Any = "t"
    with pytest.raises(UsageError, match="str"):
        scan_of(other)


def test_narrower_and_narrower(table: Table) -> None:
    first = narrowed(table.scan(filter="n > 3 or n = 0"), ["n"], "n < 6")
    assert first.to_table()["n"].to_pylist() == [0, 4, 5]
    assert narrowed(first, limit=2).limit == 2
    assert narrowed(narrowed(first, limit=2), limit=9).limit == 2
    with pytest.raises(UsageError, match="limit"):
        narrowed(table.scan(limit=3), None, "n > 1")


@pytest.mark.parametrize(
    ("expression", "numbers"),
    [
        (None, list(range(20))),
        (pc.field("n") > 17, [18, 19]),
        ((pc.field("n") < 4) & pc.field("b"), [0, 2]),
        (pc.add(pc.field("n"), 1) == 5, [4]),  # no predicate says it
        ((pc.utf8_length(pc.field("s")) == 2) & (pc.field("n") > 7), [8, 9]),
    ],
)
@pytest.mark.parametrize("columns", [["n"], ["s", "n"]])
def test_rows_for_which_an_expression_is_true(
    table: Table, expression: Any, numbers: list[int], columns: list[str]
) -> None:
    schema, batches = filtered_batches(table.scan(), columns, expression)
    found = pa.Table.from_batches(list(batches), schema)
    assert found.schema.names == columns
    assert found["n"].to_pylist() == numbers


def test_a_limit_comes_first(table: Table) -> None:
    _, batches = filtered_batches(table.scan(limit=5), ["n"], pc.field("n") >= 3)
    assert [n for batch in batches for n in batch["n"].to_pylist()] == [3, 4]


def test_small_things() -> None:
    assert narrowest(ROWS.schema) == "b"
    assert narrowest(pa.schema([("s", pa.string())])) == "s"
    views = pa.table(
        {"a": pa.array(["x"], pa.string_view()), "b": pa.array([b"y"], pa.binary_view()), "c": [1]}
    )
    plain = without_views(views)
    assert plain.schema.types == [pa.string(), pa.binary(), pa.int64()]
    assert plain.to_pylist() == views.to_pylist()
