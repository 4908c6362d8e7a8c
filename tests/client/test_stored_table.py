"""A table that can be read and appended to: what it says of itself, counts, partitions, columns."""

from __future__ import annotations

import datetime as dt
import pickle
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

import fletching
from fletching.client.stored_table import microseconds
from fletching.client.table_schemas import table_schemas
from fletching.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NoSuchPartitionError,
    NoSuchTableError,
    UsageError,
)
from fletching.protocol.messages.admin import TableInfo
from fletching.types import PartitionSpec

SCHEMA = pa.schema([("id", pa.int64()), pa.field("text", pa.string(), nullable=False)])


def test_the_schema_is_data_columns_then_partition_columns(client: fletching.Client) -> None:
    table = client.create_table("t", SCHEMA, partition_by=["pt", "region"])
    assert table.data_schema == SCHEMA
    partitions = [pa.field(name, pa.string(), nullable=False) for name in ("pt", "region")]
    assert table.schema == pa.schema([*SCHEMA, *partitions])
    assert table.partition_columns == ("pt", "region")
    assert table.name == "t"
    assert str(table.full_name) == f"{client.project}.default.t"
    assert repr(table) == f"<Table {client.project}.default.t (id, text, pt, region)>"


def test_a_table_that_another_thread_reloads_is_never_half_new(
    client: fletching.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = client.create_table("t", SCHEMA, partition_by=["pt"])
    client.table("t").add_columns("more STRING")
    before = table.info, table.schema, table.data_schema
    meanwhile = []

    def slow_schemas(info: TableInfo) -> tuple[pa.Schema, pa.Schema]:
        meanwhile.append((table.info, table.schema, table.data_schema))
        return table_schemas(info)

    monkeypatch.setattr("fletching.client.stored_table.table_schemas", slow_schemas)
    table.reload()
    assert meanwhile == [before]
    assert table.schema.names == ["id", "text", "more", "pt"]
    assert table.info != before[0]


def test_counts(client: fletching.Client) -> None:
    table = client.create_table("t", SCHEMA, partition_by=["pt"])
    assert table.count_rows() == 0
    table.append({"id": [1, 2], "text": ["a", "b"]}, partition="pt=1")
    table.append({"id": [3], "text": ["c"]}, partition="pt=2")
    assert table.count_rows() == 3
    assert table.count_rows("pt=1") == 2
    assert table.count_rows({"pt": 2}) == 1
    assert table.count_rows("pt=3") == 0
    assert table.info.rows == 0
    assert table.reload().info.rows == 3


def test_counts_with_a_filter(client: fletching.Client) -> None:
    table = client.create_table("t", SCHEMA, partition_by=["pt"])
    table.append({"id": [1, 2, 3], "text": ["a", "b", "c"], "pt": ["1", "1", "2"]})
    assert table.count_rows(filter="id > 1") == 2
    assert table.count_rows("pt=1", filter="id > 1") == 1


def test_partitions_are_texts_with_figures(client: fletching.Client) -> None:
    table = client.create_table("t", SCHEMA, partition_by=["pt"])
    assert table.partitions() == []
    table.append({"id": [1, 2], "text": ["a", "b"]}, partition="pt=20260101")
    (partition,) = table.partitions()
    assert partition == "pt=20260101"
    assert partition.spec == PartitionSpec((("pt", "20260101"),))
    assert partition.values == ("20260101",)
    assert partition.rows == 2
    assert partition.bytes > 0
    assert partition.partition("=") == ("pt", "=", "20260101")
    assert pickle.loads(pickle.dumps(partition)).rows == 2
    assert table.scan(partitions=[partition]).to_table().num_rows == 2


def test_partitions_can_be_made_and_dropped(client: fletching.Client) -> None:
    table = client.create_table("t", SCHEMA, partition_by=["pt"])
    assert table.create_partition("pt=1") == "pt=1"
    with pytest.raises(AlreadyExistsError):
        table.create_partition("pt=1")
    table.create_partition("pt=1", if_not_exists=True)
    table.append({"id": [1], "text": ["a"]}, partition="pt=1")
    table.drop_partition("pt=1")
    assert table.count_rows() == 0
    with pytest.raises(NoSuchPartitionError):
        table.drop_partition("pt=1")
    table.drop_partition("pt=1", if_exists=True)


def test_many_partitions_come_in_pages(client: fletching.Client) -> None:
    table = client.create_table("t", "n BIGINT", partition_by=["pt"])
    # More than one body may touch, so the client halves it.
    table.append({"n": range(1500), "pt": [f"{n:05}" for n in range(1500)]})
    assert table.partitions() == [f"pt={n:05}" for n in range(1500)]


def test_columns_can_be_added(client: fletching.Client) -> None:
    table = client.create_table("t", pa.schema([("id", pa.int64())]))
    table.append({"id": [1]})
    assert table.add_columns("more STRING").schema.names == ["id", "more"]
    table.append({"id": [2], "more": ["x"]})
    table.add_columns(pa.schema([("third", pa.float64())]))
    assert table.to_table().to_pydict() == {
        "id": [1, 2],
        "more": [None, "x"],
        "third": [None, None],
    }


def test_a_dropped_table_is_gone(client: fletching.Client) -> None:
    table = client.create_table("t", SCHEMA)
    client.drop_table("t")
    with pytest.raises(NoSuchTableError):
        table.count_rows()
    with pytest.raises(NoSuchTableError):
        table.scan().to_table()
    with pytest.raises(NoSuchTableError):
        table.append({"id": [1], "text": ["a"]})


@pytest.mark.parametrize(
    ("columns", "partition_by", "counted"),
    [
        ("s STRING, i INT, b BIGINT", None, (("i",), ())),
        ("s STRING", ["pt"], ((), ("pt",))),
        ("s STRING, l ARRAY<INT>", None, (("s",), ())),
    ],
)
def test_rows_are_counted_by_the_column_of_the_fewest_bytes(
    client: fletching.Client, columns: str, partition_by: list[str] | None, counted: object
) -> None:
    scan = client.create_table("a", columns, partition_by=partition_by).scan(columns=[])
    assert scan._wanted() == counted


def test_misspelt_partitions(client: fletching.Client) -> None:
    table = client.create_table("t", SCHEMA, partition_by=["pt"])
    with pytest.raises(UsageError):
        table.append({"id": [1], "text": ["a"]}, partition="pt")
    with pytest.raises(InvalidArgumentError):
        table.append({"id": [1], "text": ["a"]}, partition="other=1")


def test_a_table_travels(client: fletching.Client) -> None:
    table = client.create_table("t", SCHEMA)
    copy = pickle.loads(pickle.dumps(table))
    copy.append({"id": [1], "text": ["a"]})
    assert table.count_rows() == 1


def test_a_moment_is_one_whatever_its_zone_and_needs_one() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    twice = dt.datetime(2026, 10, 25, 2, 30, tzinfo=berlin)  # the clocks are set back at three
    utc = dt.datetime(2026, 10, 25, 0, 30, tzinfo=dt.UTC)
    assert microseconds(twice) == microseconds(utc)
    assert microseconds(twice.replace(fold=1)) == microseconds(utc) + 3_600_000_000
    assert microseconds(utc.astimezone(ZoneInfo("Asia/Kathmandu"))) == microseconds(utc)

    class Nowhere(dt.tzinfo):
        def utcoffset(self, _moment: dt.datetime | None) -> None:
            return None

        dst = tzname = utcoffset

    for naive in (dt.datetime(2026, 10, 25), utc.replace(tzinfo=Nowhere())):  # noqa: DTZ001
        with pytest.raises(UsageError, match="a moment needs a time zone"):
            microseconds(naive)
