"""How a body's schema relates to a table's: the cheapest way that fits, or a refusal."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.writing.matching import MatchKind, match_schema, stored_array
from fletching.errors import InvalidArgumentError

STORED = pa.schema(
    [("id", pa.int64()), pa.field("name", pa.string()), pa.field("must", pa.int8(), nullable=False)]
)


def match(names: list[tuple[str, Any]], partition: bool = False) -> Any:
    partitions = [pa.field("pt", pa.string())] if partition else []
    return match_schema(pa.schema(names), STORED, partitions)


ID, NAME, MUST, PT = (
    ("id", pa.int64()),
    ("name", pa.string()),
    ("must", pa.int8()),
    ("PT", pa.string()),
)


@pytest.mark.parametrize(
    ("names", "partition", "kind", "columns"),
    [
        ([ID, NAME, MUST], False, MatchKind.VERBATIM, (0, 1, 2)),
        ([("ID", pa.int64()), NAME, MUST], False, MatchKind.VERBATIM, (0, 1, 2)),
        ([NAME, ID, MUST], False, MatchKind.PROJECT, (1, 0, 2)),
        ([PT, ID, NAME, MUST], True, MatchKind.PROJECT, (1, 2, 3)),
        ([ID, NAME, MUST, PT], True, MatchKind.PROJECT, (0, 1, 2)),
        ([ID, MUST], False, MatchKind.CONVERT, (0, None, 1)),
        ([("id", pa.int8()), NAME, MUST], False, MatchKind.CONVERT, (0, 1, 2)),
    ],
)
def test_the_cheapest_way_that_fits(names: Any, partition: bool, kind: Any, columns: Any) -> None:
    match_found = match(names, partition)
    assert (match_found.kind, match_found.columns) == (kind, columns)
    assert match_found.partition_columns == ((names.index(PT),) if partition else ())


def test_integers_name_partitions_of_text() -> None:
    result = match([ID, NAME, MUST, ("pt", pa.int64())], partition=True)
    assert (result.kind, result.partition_columns) == (MatchKind.PROJECT, (3,))


I8, TEXT = pa.int8(), pa.string()


@pytest.mark.parametrize(
    ("given", "partition", "columns"),
    [
        ([ID, ("x", TEXT), MUST], False, (0, 1, 2)),
        ([("x", pa.int64()), ("y", TEXT), ("z", I8), ("w", TEXT)], True, (0, 1, 2)),
        ([("NAME", TEXT), MUST, ID], False, (2, 0, 1)),
        ([("x", pa.int64()), ("y", TEXT)], False, None),
        ([ID, NAME, MUST, ("x", I8)], False, None),
        ([("x", TEXT), ("y", TEXT), MUST], False, None),
    ],
)
def test_columns_by_place(given: Any, partition: bool, columns: Any) -> None:
    partitions = [pa.field("pt", TEXT)] if partition else []
    if columns is None:
        with pytest.raises(InvalidArgumentError):
            match_schema(pa.schema(given), STORED, partitions, by_position=True)
        return
    result = match_schema(pa.schema(given), STORED, partitions, by_position=True)
    assert result.columns == columns
    assert result.partition_columns == ((3,) if partition else ())


@pytest.mark.parametrize(
    ("names", "partition", "message"),
    [
        ([ID, NAME], False, "lacks column 'must'"),
        ([ID, NAME, MUST, ("x", pa.int8())], False, "no column 'x'"),
        ([ID, ID, MUST], False, "two columns named"),
        ([ID, NAME, MUST], True, "lacks column 'pt'"),
        ([ID, NAME, MUST, ("pt", pa.list_(pa.int8()))], True, "column 'pt' is list"),
        (
            [("id", pa.string()), NAME, MUST],
            False,
            "column 'id' is string in the data and int64 in the table",
        ),
        ([ID, NAME, MUST, PT], False, "no column 'PT'"),
    ],
)
def test_schemas_that_do_not_fit(names: Any, partition: bool, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        match(names, partition)


def test_a_column_that_the_partition_says_is_told() -> None:
    with pytest.raises(InvalidArgumentError, match="column 'PT', whose value the partition says"):
        match_schema(pa.schema([ID, NAME, MUST, PT]), STORED, [], fixed={"pt"})


def test_values_that_do_not_fit_are_the_clients_fault() -> None:
    assert stored_array(pa.array([1, 2]), pa.int8(), "c").to_pylist() == [1, 2]
    with pytest.raises(InvalidArgumentError, match=r"column 'c'.*row 1 does not fit int8"):
        stored_array(pa.array([1, 300]), pa.int8(), "c")
