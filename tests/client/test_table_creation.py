"""Tables that are created: which columns are partition columns, and that nobody sees them half filled."""

from __future__ import annotations

import pyarrow as pa
import pytest

import fletching
from fletching.client import Table
from fletching.client.table_creation import filled_table, split_columns
from fletching.errors import AlreadyExistsError, NoSuchTableError, UsageError
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.admin import CreateTable

SCHEMA = pa.schema([("id", pa.int64()), ("pt", pa.int32()), ("text", pa.string())])


@pytest.mark.parametrize(
    ("partition_by", "data", "pairs"),
    [
        (None, ["id", "pt", "text"], ()),
        ("pt", ["id", "text"], (("pt", "int"),)),
        (["PT"], ["id", "text"], (("pt", "int"),)),
        (["day"], ["id", "pt", "text"], (("day", "string"),)),
        (["day", "text"], ["id", "pt"], (("day", "string"), ("text", "string"))),
        ({"day": "bigint", "pt": "string"}, ["id", "text"], (("day", "bigint"), ("pt", "string"))),
    ],
    ids=str,
)
def test_partition_columns_may_be_in_the_schema_or_not(
    partition_by: object, data: list[str], pairs: tuple[tuple[str, str], ...]
) -> None:
    columns, partitions = split_columns(SCHEMA, partition_by)  # type: ignore[arg-type]  # as parametrised
    assert columns.names == data
    assert partitions == pairs


def test_a_partition_column_twice() -> None:
    with pytest.raises(UsageError):
        split_columns(SCHEMA, ["day", "Day"])


def request(client: fletching.Client) -> CreateTable:
    return CreateTable(table=client.table_name("t"), arrow_schema=encode_schema(SCHEMA))


def test_a_table_is_listed_once_the_block_has_filled_it(client: fletching.Client) -> None:
    with filled_table(client.channel, request(client)) as table:
        table.append({"id": [1], "pt": [2], "text": ["x"]})
        assert client.list_tables() == []
        with pytest.raises(NoSuchTableError):
            client.table("t")
        assert table.count_rows() == 1
    assert (table.name, table.info.rows) == ("t", 1)
    assert client.list_tables() == ["t"]
    with pytest.raises(AlreadyExistsError), filled_table(client.channel, request(client)):
        pytest.fail("the name is taken")


def test_a_block_that_fails_leaves_no_table(client: fletching.Client) -> None:
    made: list[Table] = []

    def fill() -> None:
        with filled_table(client.channel, request(client)) as table:
            made.append(table)
            table.append({"id": [1], "pt": [2], "text": ["x"]})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fill()
    assert client.list_tables() == []
    with pytest.raises(NoSuchTableError):
        made[0].reload()
