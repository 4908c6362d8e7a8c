from __future__ import annotations

import sys
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import fletching
from fletching.errors import MissingExtraError, UsageError


@pytest.fixture
def filled(events: fletching.Table) -> fletching.Table:
    events.append({"id": [1, 2, None], "text": ["a", None, "c"]}, partition="pt=1")
    events.append({"id": [4], "text": ["d"]}, partition="pt=2")
    return events


def test_rows_come_in_every_form(filled: fletching.Table) -> None:
    scan = filled.scan(columns=["id", "pt"])
    wanted = {"id": [1, 2, None, 4], "pt": ["1", "1", "1", "2"]}
    assert scan.to_table().to_pydict() == wanted
    assert pa.Table.from_batches(list(scan)).to_pydict() == wanted
    assert pa.table(scan).to_pydict() == wanted
    assert scan.to_polars().to_dict(as_series=False) == wanted
    assert isinstance(scan.to_polars(), pl.DataFrame)
    frame = scan.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["pt"].tolist() == wanted["pt"]
    typed = scan.to_pandas(types_mapper=pd.ArrowDtype)
    assert typed["id"].dtype == pd.ArrowDtype(pa.int64())
    # A scan is read anew each time, also while it is read.
    batches = iter(scan)
    next(batches)
    assert scan.to_table().num_rows == 4
    batches.close()  # type: ignore[attr-defined]  # it is a generator


def test_counting_asks_for_no_more_than_it_must(filled: fletching.Table) -> None:
    assert filled.scan().count() == len(filled) == filled.count_rows() == 4
    assert filled.scan(partitions="pt=1").count() == 3
    assert filled.scan(limit=2).count() == 2
    assert filled.scan(limit=9).count() == 4
    assert filled.scan(filter="id > 1").count() == 2
    assert filled.scan(["text"], filter="id > 1", limit=1).count() == 1


def test_an_empty_table_is_still_a_table(events: fletching.Table) -> None:
    assert len(events) == 0
    assert events
    assert events.scan()


def test_the_first_rows(filled: fletching.Table) -> None:
    assert filled.head(2)["id"].to_pylist() == [1, 2]
    assert filled.head().num_rows == 4
    assert filled.scan(["id"], limit=1).head(3).num_rows == 1
    assert filled.scan(["id"], filter="id > 1").head(1)["id"].to_pylist() == [2]


def test_what_is_not_installed_is_named(
    filled: fletching.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingExtraError, match="pip install pandas"):
        filled.scan().to_pandas()
    with pytest.raises(MissingExtraError, match="pip install polars"):
        filled.scan().to_polars()


def test_layouts_that_the_frames_do_not_know(client: fletching.Client) -> None:
    runs = pc.run_end_encode(pa.array(["a", "a", None]))
    rows = pa.table(
        {
            "inside": pa.StructArray.from_arrays([runs], ["runs"]),
            "runs": runs,
            "lists": pa.array([[1], None, [2, 3]], pa.list_view(pa.int64())),
            "texts": pa.array([["a"], None, []], pa.list_(pa.string_view())),
        }
    )
    table = client.create_table("layouts", rows)
    wanted = rows.to_pydict()
    assert table.scan().to_polars().to_dict(as_series=False) == wanted
    frame = table.scan().to_pandas()
    assert frame["runs"].to_list()[:2] == ["a", "a"]
    for name in ("lists", "texts"):
        assert [None if each is None else list(each) for each in frame[name]] == wanted[name]
    # pyarrow would end the process where such columns have no chunk.
    nothing = table.scan(filter="lists IS NOT NULL AND lists IS NULL")
    assert {column.num_chunks for column in nothing.to_table().columns} == {1}
    assert len(nothing.to_pandas()) == len(nothing.to_polars()) == 0
    chosen = table.scan(filter=pc.equal(pc.add(pc.list_value_length(pc.field("lists")), 0), 1))
    assert chosen.to_table().to_pylist() == rows.slice(0, 1).to_pylist()
    query = client.sql("SELECT lists FROM layouts WHERE FALSE")
    assert {column.num_chunks for column in query.to_table().columns} == {1}


def test_types_that_polars_does_not_know(client: fletching.Client) -> None:
    table = client.create_table("odd", pa.schema([("a", pa.decimal256(76, 3))]))
    table.append({"a": [None]})
    with pytest.raises(UsageError, match="polars cannot hold these rows: "):
        table.scan().to_polars()


def test_values_that_pandas_cannot_take(filled: fletching.Table) -> None:
    with pytest.raises(UsageError, match="pandas cannot hold these rows: Needed to copy"):
        filled.scan().to_pandas(zero_copy_only=True)


def test_notebooks_show_what_is_known(client: fletching.Client) -> None:
    schema = pa.schema([pa.field("<b>&", pa.int64(), nullable=False), ("n", pa.duration("s"))])
    table = client.create_table("t", schema, comment="<script>")
    views: list[Any] = [table._repr_html_(), table.scan(filter="`n` > '<'")._repr_html_()]
    for view in views:
        assert "&lt;b&gt;&amp;" in view
        assert "not null" in view
        assert "<script>" not in view
    assert "&lt;script&gt;" in views[0]
    wide = client.create_table("wide", pa.schema([(f"c{i}", pa.int8()) for i in range(300)]))
    assert "and 200 more" in wide._repr_html_()
