"""One part of a scan: read in every form, carried anywhere, the same value wherever it is."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import fletching
from fletching.errors import UsageError


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fletching.Table]:
    folder: Path = tmp_path_factory.mktemp("splits") / "data"
    with fletching.connect(folder, create=True) as client:
        yield client.create_table("t", {"id": list(range(10)), "s": [f"{i}" for i in range(10)]})


@pytest.fixture
def split(table: fletching.Table) -> fletching.Split:
    return table.scan().session().splits(2)[1]


def test_it_is_read_in_every_form_of_a_scan(split: fletching.Split) -> None:
    whole = split.to_table()
    assert whole["id"].to_pylist() == [5, 6, 7, 8, 9]
    assert pa.Table.from_batches(list(split), split.schema) == whole
    assert pa.Table.from_batches(list(split.to_batches())) == whole
    assert pa.table(split) == whole
    assert pl.DataFrame(split)["id"].to_list() == [5, 6, 7, 8, 9]
    assert split.to_polars().to_arrow()["id"].to_pylist() == [5, 6, 7, 8, 9]
    assert split.to_pandas().equals(pd.DataFrame(whole.to_pydict()))
    counted: list[fletching.Progress] = []
    split.to_table(progress=counted.append)
    assert (counted[-1].done, counted[-1].total) == (5, 5)


def test_a_reader_begins_at_any_row_and_says_where_it_is(
    split: fletching.Split, table: fletching.Table
) -> None:
    with split.reader(2) as reader:
        assert reader.token.row == 2
        assert reader.read_all()["id"].to_pylist() == [7, 8, 9]
    assert split.reader(5).read_all().num_rows == 0
    for row in (-1, 6, "x", None):
        with pytest.raises(UsageError, match="row"):
            split.reader(row)  # type: ignore[arg-type]
    assert table.name == "t"


def test_a_raw_reader_gives_the_stream_as_it_travels(split: fletching.Split) -> None:
    with split.raw_reader() as file, pa.ipc.open_stream(file) as stream:
        assert stream.read_all() == split.to_table()


def test_the_names_of_earlier_programs_work_and_warn_nobody(split: fletching.Split) -> None:
    # Warnings are errors here.
    with split.to_reader(1) as reader:
        assert reader.read_all()["id"].to_pylist() == [6, 7, 8, 9]
    with split.open_stream() as file:
        assert pa.ipc.open_stream(file.read()).read_all() == split.to_table()
    assert "use reader" in fletching.Split.to_reader.__deprecated__  # type: ignore[attr-defined]


def test_equal_splits_are_one_value_in_every_process(table: fletching.Table) -> None:
    session = table.scan().session()
    first, second = session.splits(2)
    assert first != second
    assert session.splits(2)[0] == first
    carried = pickle.loads(pickle.dumps(first))
    assert carried == first
    assert hash(carried) == hash(first)
    assert carried.__dask_tokenize__() == first.__dask_tokenize__()
    assert carried.to_table() == first.to_table()
    assert (carried.row_count, carried.byte_size, carried.partition) == (
        first.row_count,
        first.byte_size,
        None,
    )


def test_a_list_of_splits_shows_what_each_is(table: fletching.Table) -> None:
    splits = table.scan().splits(2)
    shown = splits._repr_html_()  # type: ignore[attr-defined]
    assert shown.count("<tr") >= 2
    assert "bytes" in shown
