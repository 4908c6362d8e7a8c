from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import fletching
from fletching.errors import AlreadyExistsError, NoSuchTableError, NotFoundError, UsageError
from fletching.types import TableName

SCHEMA = pa.schema([("id", pa.int64()), ("pt", pa.int32()), ("text", pa.string())])


def test_tables_come_and_go(client: fletching.Client) -> None:
    assert client.list_tables() == []
    client.create_table("b", SCHEMA)
    client.create_table("a", SCHEMA)
    assert client.list_tables() == ["a", "b"]
    assert client.list_tables(prefix="b") == ["b"]
    assert client.table("a").schema == SCHEMA
    client.drop_table("a")
    with pytest.raises(NoSuchTableError):
        client.table("a")
    with pytest.raises(NoSuchTableError):
        client.drop_table("a")
    client.drop_table("a", if_exists=True)
    assert client.list_tables() == ["b"]


def test_a_listed_table_has_figures(client: fletching.Client) -> None:
    client.create_table("t", SCHEMA).append({"id": [1, 2]})
    (entry,) = client.list_tables()
    assert (entry, entry.name, entry.rows, entry.info.table.name) == ("t", "t", 2, "t")
    assert entry.bytes > 0
    assert pickle.loads(pickle.dumps(entry)).rows == 2
    assert client.table(entry).count_rows() == 2


def test_creating_a_table_twice(client: fletching.Client) -> None:
    client.create_table("t", SCHEMA)
    with pytest.raises(AlreadyExistsError):
        client.create_table("t", SCHEMA)
    assert client.create_table("t", "x STRING", if_not_exists=True).schema == SCHEMA


def test_columns_as_text(client: fletching.Client) -> None:
    table = client.create_table("pics", "id BIGINT NOT NULL, image BLOB, tags ARRAY<STRING>")
    assert table.schema.names == ["id", "image", "tags"]
    assert table.schema.field("image").type == fletching.blob()
    assert not table.schema.field("id").nullable
    with pytest.raises(UsageError):
        client.create_table("bad", "id NO_SUCH_TYPE")


def test_typed_partition_columns_come_back_typed(client: fletching.Client) -> None:
    table = client.create_table("t", SCHEMA, partition_by=["pt"])
    table.append({"id": [1, 2], "pt": [10, 9]})
    back = table.to_table().sort_by("id")
    assert back["pt"].type == pa.int32()
    assert back["pt"].to_pylist() == [10, 9]
    assert table.schema == back.schema


def test_names(client: fletching.Client) -> None:
    p = client.project
    assert client.table_name("t") == TableName(p, "t", "default")
    assert client.table_name("s.t") == TableName(p, "t", "s")
    assert client.table_name("q.s.t") == TableName("q", "t", "s")
    for name in ("", ".t", "a.b.c.d", "a..b"):
        with pytest.raises(UsageError):
            client.table_name(name)


def test_schemas_are_namespaces(client: fletching.Client) -> None:
    client.create_table("other.t", SCHEMA)
    assert client.list_tables() == []
    assert client.list_tables(schema="other") == ["t"]
    assert client.table("other.t").full_name.schema == "other"


def test_options_are_shared_downwards(client: fletching.Client) -> None:
    changed = client.with_options(timeouts={"idle": 5.0}, connections=2)
    table = changed.create_table("t", SCHEMA)
    assert table.channel.options.timeouts.idle == 5.0
    assert table.with_options(connections=7).channel.options.connections == 7
    assert client.channel.options.connections == "auto"
    assert changed.channel.transport is client.channel.transport


def test_a_client_travels_and_hides_its_secret(client: fletching.Client) -> None:
    client.create_table("t", SCHEMA)
    copy = pickle.loads(pickle.dumps(client))
    assert copy.list_tables() == ["t"]
    assert copy.project == client.project
    assert "secret" not in repr(client) + repr(client.channel)


FRAME = {"id": [1, 2, 3], "text": ["a", None, "c"]}


@pytest.mark.parametrize(
    "make",
    [
        lambda: FRAME,
        lambda: [{"id": 1, "text": "a"}, {"id": 2, "text": None}, {"id": 3, "text": "c"}],
        lambda: pa.table(FRAME),
        lambda: pa.table(FRAME).to_batches()[0],
        lambda: pa.table(FRAME).to_reader(),
        lambda: (batch for batch in pa.table(FRAME).to_batches(max_chunksize=1)),
        lambda: pd.DataFrame(FRAME),
        lambda: pl.DataFrame(FRAME),
    ],
    ids=["columns", "rows", "table", "batch", "reader", "generator", "pandas", "polars"],
)
def test_a_table_is_made_from_its_rows(client: fletching.Client, make: Any) -> None:
    table = client.create_table("t", make())
    assert table.schema.names == ["id", "text"]
    assert table.to_table().to_pydict() == FRAME
    assert not table.schema.metadata
    # Rows go into a table that was made with them, and into no other.
    assert client.create_table("t", make(), if_not_exists=True).count_rows() == 3
    with pytest.raises(AlreadyExistsError):
        client.create_table("t", make())
    assert table.count_rows() == 3


def test_rows_make_partitions(client: fletching.Client) -> None:
    table = client.create_table("t", {"id": [1, 2], "pt": ["a", "b"]}, partition_by=["pt"])
    assert table.partitions() == ["pt=a", "pt=b"]


@pytest.mark.parametrize("fails", [False, True])
def test_nobody_sees_a_table_before_its_rows_are_in_it(
    client: fletching.Client, fails: bool
) -> None:
    def rows() -> Iterator[dict[str, int]]:
        yield {"id": 1}
        assert client.list_tables() == []
        with pytest.raises(NoSuchTableError):
            client.table("t")
        if fails:
            raise ZeroDivisionError

    if fails:
        with pytest.raises(ZeroDivisionError):
            client.create_table("t", rows())
        assert client.list_tables() == []
    else:
        assert client.create_table("t", rows()).info.rows == 1
        assert client.list_tables() == ["t"]


@pytest.mark.parametrize("if_not_exists", [False, True])
def test_another_that_is_made_meanwhile_stays(
    client: fletching.Client, if_not_exists: bool
) -> None:
    def rows() -> Iterator[dict[str, int]]:
        yield {"id": 1}
        client.create_table("t", {"id": [7]})

    if if_not_exists:
        made = client.create_table("t", rows(), if_not_exists=True)
        assert made.count_rows() == 1
    else:
        with pytest.raises(AlreadyExistsError):
            client.create_table("t", rows())
    assert client.table("t").to_table().to_pydict() == {"id": [7]}
    assert client.list_tables() == ["t"]


def test_a_table_whose_rows_fail_is_not_left_behind(client: fletching.Client) -> None:
    def rows() -> Any:
        yield {"id": 1}
        raise OSError("the source broke")

    def batches() -> Any:
        yield pa.record_batch({"id": [1]})
        raise OSError("the source broke")

    for broken in (rows, batches):
        with pytest.raises(OSError, match="the source broke"):
            client.create_table("t", broken())
        assert client.list_tables() == []


@pytest.mark.parametrize(
    "columns",
    [
        {"a": pa.int64(), "b": pa.string()},
        {"a": "int64", "b": "string"},
        [("a", pa.int64()), ("b", pa.string())],
        [pa.field("a", pa.int64()), pa.field("b", pa.string())],
        "a BIGINT, b STRING",
    ],
    ids=str,
)
def test_columns_are_told_from_rows(client: fletching.Client, columns: Any) -> None:
    assert client.create_table("t", columns).count_rows() == 0
    assert client.table("t").schema.names == ["a", "b"]


def test_who_reads_a_dropped_table_reads_on(client: fletching.Client) -> None:
    table = client.create_table("t", {"n": range(10)})
    first, second = table.scan().session().splits(2)
    assert first.to_table().num_rows == 5
    writing = table.write_session()
    with writing.writer() as writer:
        writer.write({"n": [10]})
    client.drop_table("t")
    assert second.to_table()["n"].to_pylist() == [5, 6, 7, 8, 9]
    with pytest.raises(NoSuchTableError):
        table.scan().to_table()
    with pytest.raises(NotFoundError):
        writing.commit()
    assert client.create_table("t", "n BIGINT").count_rows() == 0
