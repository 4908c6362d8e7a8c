"""Tables in Polars."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fletching.client import Client, Scan, Table
from fletching.errors import UsageError
from fletching.testing.connector_contract import Change
from fletching.testing.contracts import ENGINE_ROWS, ConnectorContract

pl = pytest.importorskip("polars")

from fletching.connectors.polars import scan_table, sink_table  # noqa: E402  # after the skip

col = pl.col


pytestmark = pytest.mark.engines


OPERATORS = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "==": operator.eq,
    "!=": operator.ne,
}  # fmt: skip


class TestContract(ConnectorContract):
    def read(self, source: Table | Scan, columns: list[str] | None = None) -> pa.Table:
        frame = scan_table(source)
        if columns is not None:
            frame = frame.select(columns)
        result = frame.collect()
        if not result.columns:
            # The frame has a height, and Arrow is given its columns alone.
            return pa.table({"row": range(result.height)}).select([])
        return result.to_arrow()

    def count(self, source: Table | Scan) -> int:
        return int(scan_table(source).select(pl.len()).collect().item())

    def write(self, data: pa.Table, table: Table, *, overwrite: bool) -> None:
        frame = pl.from_arrow(data)
        assert isinstance(frame, pl.DataFrame)
        sink_table(frame.lazy(), table, overwrite=overwrite)

    def write_keyed(self, data: pa.Table, table: Table, key: str) -> None:
        frame = pl.from_arrow(data)
        assert isinstance(frame, pl.DataFrame)
        sink_table(frame.lazy(), table, idempotency_key=key)

    def write_changed(self, data: pa.Table, table: Table, change: Change) -> None:
        frame = pl.from_arrow(data)
        assert isinstance(frame, pl.DataFrame)
        sink_table(
            frame.lazy().map_batches(lambda each: pl.DataFrame(change(each.to_arrow()))), table
        )

    driver = (
        "from fletching.connectors.polars import scan_table, sink_table\n"
        "sink_table(scan_table(table), table, idempotency_key='job')\n"
    )

    def where(self, source: Table, column: str, operator: str, value: Any) -> list[int]:
        condition = (
            col(column).is_null() if value is None else OPERATORS[operator](col(column), value)
        )
        return scan_table(source).filter(condition).select("id").collect()["id"].to_list()

    def where_of_first(self, source: Table, rows: int, column: str, value: float) -> list[int]:
        few = scan_table(source).head(rows).filter(col(column) >= value).select("id")
        assert few.collect().equals(few.collect(engine="streaming"))
        return few.collect()["id"].to_list()

    def later(self, source: Table) -> Callable[[], pa.Table]:
        frame = scan_table(source)
        return lambda: frame.collect().to_arrow()

    def stop_early(self, source: Table) -> None:
        few = scan_table(source).filter(col("id") >= 5).head(10)
        assert few.collect(engine="streaming").height == few.collect().height == 10
        for frame in scan_table(source).collect_batches(chunk_size=100):
            assert frame.height
            break

    def let_go(self, source: Table) -> None:
        # What its threads hold of Python Polars lets go of when a query next comes to Python; they end
        # when they find that nobody takes what they have.
        scan_table(source).head(1).collect()


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[Scan]:
    """The scans that were read."""
    read: list[Scan] = []
    original = Scan.to_batches

    def spy(self: Scan) -> Any:
        read.append(self)
        return original(self)

    monkeypatch.setattr(Scan, "to_batches", spy)
    return read


PREDICATES = [
    (col("id") > 5, "`id` > 5"),
    ((col("id") > 5) & (col("text") != "h"), "`id` > 5 AND `text` != 'h'"),
    (col("text").is_in(["f", "é"]), "`text` IN ('f', 'é')"),
    (~col("text").is_in(["f", "é"]), "NOT (`text` IN ('f', 'é'))"),
    (col("day") >= dt.date(2026, 1, 5), "`day` >= DATE '2026-01-05'"),
    (col("text").is_null() | (col("id") == 2), "(`text` IS NULL OR `id` = 2)"),
    (col("number") < 3, "`number` < 3.0D"),
    (col("number") > 3, None),
    (col("number").is_nan(), None),
    (col("point").struct.field("x") == 3, "`point`.`x` = 3"),
    (
        col("point").struct.field("x").is_null() | (pl.lit(7) < col("id")),
        "(`point`.`x` IS NULL OR `id` > 7)",
    ),
    (pl.lit(3.5) < col("number"), None),
    (col("text").str.starts_with("f"), None),
    (col("id") % 2 == 0, None),
    (col("id") > col("number"), None),
]


@pytest.mark.parametrize(("predicate", "pushed"), PREDICATES, ids=lambda each: str(each)[:60])
def test_a_pushed_predicate_changes_no_answer(
    client: Client, scans: list[Scan], predicate: Any, pushed: str | None
) -> None:
    table = TestContract().made(client)
    frame = pl.from_arrow(ENGINE_ROWS)
    assert isinstance(frame, pl.DataFrame)
    result = scan_table(table).filter(predicate).select("tags", "id").collect()
    expected = frame.filter(predicate).select("tags", "id")
    assert result.equals(expected)
    assert scans[-1].filter == pushed


def test_rows_and_columns_are_pushed(client: Client, scans: list[Scan]) -> None:
    frame = scan_table(TestContract().made(client))
    assert frame.select("id").head(3).collect()["id"].to_list() == [0, 1, 2]
    assert (scans[-1].columns, scans[-1].limit) == (("id",), 3)
    assert frame.filter(col("id") > 4).head(2).collect().height == 2
    assert frame.filter(col("id") > 4).select("text").collect(engine="streaming").height == 5
    assert frame.select(pl.len()).collect().item() == 10


def test_a_limit_comes_before_the_predicate(client: Client) -> None:
    few = scan_table(TestContract().made(client).scan(limit=3))
    assert few.filter(col("id") >= 2).collect()["id"].to_list() == [2]


def test_a_frame_is_written(client: Client) -> None:
    table = TestContract().made(client)
    assert sink_table(scan_table(table).filter(col("id") < 3), table) == 3
    frame = scan_table(table).collect()
    assert frame.height == 13
    assert sink_table(frame.head(2), table, overwrite=True) == 2
    assert table.count_rows() == 2


def test_a_type_that_polars_has_not_is_refused_by_name(client: Client) -> None:
    schema = pa.schema([("id", pa.int64()), ("wide", pa.decimal256(60, 2))])
    table = client.create_table("t", schema)
    try:
        scan_table(table)
    except UsageError as error:
        assert "wide" in str(error)  # noqa: PT017  # a later Polars may have the type
    assert scan_table(table.scan(columns=["id"])).collect().height == 0


LEAVES = st.one_of(
    st.builds(
        lambda op, value: getattr(col("id"), op)(value),
        st.sampled_from(["__gt__", "__le__", "__eq__", "__ne__"]),
        st.integers(-1, 10),
    ),
    st.builds(
        lambda op, value: getattr(col("number"), op)(value),
        st.sampled_from(["__gt__", "__lt__", "__eq__", "__ge__"]),
        st.sampled_from([0.0, -0.0, 0.5, 3, 1e300, float("nan")]),
    ),
    st.builds(lambda values: col("text").is_in(values), st.lists(st.sampled_from(["", "é", "f"]))),
    st.sampled_from([col("flag"), col("flag").is_null(), col("text").is_not_null()]),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a, b: a | b, inner, inner),
        st.builds(lambda a: ~a, inner),
    ),
    max_leaves=5,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(predicate=TREES)
def test_random_predicates(client: Client, predicate: Any) -> None:
    names = {each.name for each in client.list_tables()}
    table = client.table("t") if "t" in names else TestContract().made(client)
    frame = pl.from_arrow(ENGINE_ROWS)
    assert isinstance(frame, pl.DataFrame)
    result = scan_table(table).filter(predicate).select("id").collect()
    assert result.equals(frame.filter(predicate).select("id"))


@pytest.mark.parametrize("value", [2**63, 2**64 - 1, -(2**63) - 1])
def test_whole_numbers_beyond_64_bits_are_left_to_polars(client: Client, value: int) -> None:
    data = pa.table({"id": [1, 2, 3], "big": pa.array([2**63, 5, None], pa.uint64())})
    table = client.create_table("big", data.schema)
    table.append(data)
    frame = pl.from_arrow(data)
    assert isinstance(frame, pl.DataFrame)
    for predicate in (col("big") >= value, pl.lit(value) != col("big"), ~(col("big") < value)):
        assert scan_table(table).filter(predicate).collect().equals(frame.filter(predicate))


def test_what_is_written_and_where_to(client: Client) -> None:
    table = TestContract().made(client)
    with pytest.raises(UsageError, match="not to a str"):
        sink_table(scan_table(table), "t")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="frame of Polars is written, not a Table"):
        sink_table(table, scan_table(table))  # type: ignore[arg-type]
    assert table.count_rows() == 10
