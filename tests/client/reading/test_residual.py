"""Filters that the service cannot evaluate whole: pushed as far as it can, the rest evaluated here."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import fletching
from fletching.client.reading.arrow_reader import ArrowReader
from fletching.client.reading.residual import Residual, divided
from fletching.client.reading.resume_token import ResumeToken
from fletching.errors import UsageError

A, B, S, POINT = pc.field("a"), pc.field("b"), pc.field("s"), pc.field("point")
ROWS = pa.table(
    {
        "a": pa.array(range(100), pa.int64()),
        "b": [n % 7 if n % 5 else None for n in range(100)],
        "s": [f"Row {n}" if n % 3 else None for n in range(100)],
        "point": [{"x": n, "y": None if n % 2 else n / 4} for n in range(100)],
    }
)

# Expressions with a part that is no predicate, and what of them the service evaluates.
CONDITIONS: list[tuple[Any, str | None]] = [
    (A + B > 50, None),
    ((A + B > 50) & (A < 90), "`a` < 90"),
    ((A >= 10) & (pc.utf8_lower(S) == "row 40") & (B.is_valid()), "`a` >= 10 AND `b` IS NOT NULL"),
    ((A + 1 == 5) | (A == 50), None),
    (~(pc.utf8_length(S) > 5), None),
    (pc.field("point", "y") * 2 == pc.field("point", "x") / 2, None),
    ((A < 40) & (pc.if_else(B.is_null(), A, B) == 3), "`a` < 40"),
    (pc.match_substring_regex(S, "w [12]$"), None),
    (A + B > 10_000, None),
]


@pytest.fixture(params=["folder", "service"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[fletching.Table]:
    with contextlib.ExitStack() as stack:
        if request.param == "folder":
            client = fletching.connect(tmp_path, "p", create=True)
        else:
            key = {"id": "secret"}
            server = stack.enter_context(fletching.serve(tmp_path, port=0, access_keys=key))
            client = fletching.connect(
                server.url, "p", create=True, access_id="id", access_key="secret"
            )
        stack.enter_context(client)
        table = client.create_table("t", ROWS.schema)
        for start in range(0, 100, 30):
            table.append(ROWS.slice(start, 30))
        yield table


def test_the_rows_are_those_that_pyarrow_says(table: fletching.Table) -> None:
    for condition, pushed in CONDITIONS:
        right = ROWS.filter(condition)
        scan = table.scan(filter=condition)
        assert scan.filter == pushed, str(condition)
        assert isinstance(scan.residual, Residual)
        assert str(scan.residual) == str(condition)
        assert scan.to_table().equals(right), str(condition)
        assert scan.count() == right.num_rows
        assert scan.head(2).equals(right.slice(0, 2))
        for columns in (["s"], ["b", "a"], ["point", "s"], []):
            several = table.scan(columns, filter=condition)
            received = several.to_table()
            assert received.schema.names == columns
            assert received.num_rows == right.num_rows
            assert received.equals(right.select(columns)) or not columns
            assert [f.name for f in several.schema] == columns
        for limit in (0, 1, 3):
            assert (
                table.scan(filter=condition, limit=limit).to_table().equals(right.slice(0, limit))
            )


def test_sessions_and_splits_filter_where_they_are_read(table: fletching.Table) -> None:
    for condition, pushed in CONDITIONS:
        right = ROWS.filter(condition).select(["s"])
        scan = table.scan(["s"], filter=condition)
        with scan.session() as session:
            assert (session.pushed, session.filters) == (pushed, True)
            assert session.residual == scan.residual
            assert session.to_table().equals(right)
            assert session.schema == right.schema
            carried = pickle.loads(pickle.dumps(session))
            assert carried == session
            assert hash(carried) == hash(session)
            for splits in (session.splits(3), carried.splits(1), session.splits(2, columns=["s"])):
                parts = [pickle.loads(pickle.dumps(split)) for split in splits]
                assert pa.concat_tables(part.to_table() for part in parts).equals(right)
            counted = [split.to_table() for split in session.splits(2, columns=[])]
            assert sum(each.num_rows for each in counted) == right.num_rows
            part = session.rows(20, 70)
            assert part.row_count is None
            assert part.to_table().equals(ROWS.slice(20, 50).filter(condition).select(["s"]))
            with pytest.raises(UsageError, match="reads no column b"):
                session.splits(1, columns=["b"])
        sized = scan.splits(2)
        assert pa.concat_tables(each.to_table() for each in sized).equals(right)
        assert pa.table(sized[0]).schema == right.schema
        with pytest.raises(UsageError, match="has no session"):
            table.scan(filter=condition, limit=2).session()
        with pytest.raises(UsageError, match="has no splits"):
            table.scan(filter=condition, limit=2).splits()


def test_nobody_gets_rows_that_are_yet_to_be_filtered(table: fletching.Table) -> None:
    (split,) = table.scan(filter=A + B > 50).splits(1)
    assert split.residual is not None
    token = ResumeToken.parse(str(split.token))
    assert token == split.token
    for ask in (split.reader, split.raw_reader, ArrowReader(table.channel, token).read_all):
        with pytest.raises(UsageError, match="have yet to be filtered"):
            ask()


def test_what_is_no_condition_on_the_columns_is_refused_at_once(table: fletching.Table) -> None:
    for condition, complaint in [
        (A + 1, "is no condition"),
        (S + 1 > 2, "is no condition"),
        (pc.utf8_lower(pc.field("nome")) == "x", "names nome"),
        (pc.field("point", "z") + 1 > 2, "point.z"),
        (pc.field(0) + 1 > 2, "is no condition"),
        (1, "takes an SQL predicate"),
    ]:
        with pytest.raises(UsageError, match=complaint):
            table.scan(filter=condition)
    with pytest.raises(UsageError, match="cannot be evaluated: divide by zero"):
        table.scan(filter=pc.divide(A, 0) == 1).to_table()
    with pytest.raises(UsageError, match="has no form as a predicate"):
        table.delete(A + 1 == 5)


def test_leaving_early_ends_the_read(table: fletching.Table) -> None:
    batches = table.scan(filter=A + 0 >= 0).to_batches()
    assert next(batches).num_rows == 30
    batches.close()
    assert list(batches) == []


def test_text_and_plain_expressions_are_pushed_whole() -> None:
    def never() -> pa.Schema:
        raise AssertionError

    for condition, text in (("a > 1", "a > 1"), (A > 1, "`a` > 1"), (None, None)):
        assert divided(condition, never) == (text, None)


def test_rows_have_the_types_that_are_read(client: fletching.Client) -> None:
    """And not those that the table had when the scan was made."""
    client.create_table("again", pa.schema([("a", pa.int64()), ("s", pa.string())]))
    scan = client.table("again").scan(columns=["s"], filter=A + 1 > 1)
    assert scan.schema == pa.schema([("s", pa.string())])
    client.drop_table("again")
    schema = pa.schema([("a", pa.int64()), ("s", pa.int64())])
    client.create_table("again", schema).append(pa.table({"a": [1, 0], "s": [7, 8]}))
    read = scan.to_reader().read_all()
    assert read == scan.to_table() == pa.table({"s": [7]})
