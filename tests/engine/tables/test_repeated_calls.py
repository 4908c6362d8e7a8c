"""Administration that is repeated under its key, because its answer was lost: done once, answered like the first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from tests.engine.conftest import on_both_databases

from fletching.errors import KeyReusedError, NoSuchTableError, NotFoundError
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages import admin, changes
from fletching.protocol.messages.requests import Request
from fletching.types import PartitionSpec, TableName

pytestmark = on_both_databases

SCHEMA = pa.schema([("id", pa.int64())])
MESSAGE = encode_schema(SCHEMA)
T = TableName("demo", "t")
P = PartitionSpec.parse("p=1")

REQUESTS: dict[str, tuple[Request, Request]] = {
    "create project": (admin.CreateProject(project="q"), admin.CreateProject(project="q", if_not_exists=True)),
    "create schema": (
        admin.CreateSchema(project="demo", schema="s"),
        admin.DropSchema(project="demo", schema="s"),
    ),
    "drop schema": (
        admin.DropSchema(project="demo", schema="old"),
        admin.CreateSchema(project="demo", schema="old"),
    ),
    "create table": (
        admin.CreateTable(table=TableName("demo", "new"), arrow_schema=MESSAGE),
        admin.DropTable(table=TableName("demo", "new")),
    ),
    "drop table": (admin.DropTable(table=T), admin.CreateTable(table=T, arrow_schema=MESSAGE)),
    "rename table": (
        changes.RenameTable(table=T, new_name="u"),
        changes.RenameTable(table=T, new_name="v"),
    ),
    "alter table": (
        changes.AlterTable(table=T, comment="a"),
        changes.AlterTable(table=T, comment="b"),
    ),
    "add columns": (
        admin.AddColumns(table=T, arrow_schema=encode_schema(pa.schema([("a", pa.int8())]))),
        admin.AddColumns(table=T, arrow_schema=encode_schema(pa.schema([("b", pa.int8())]))),
    ),
    "create partition": (
        admin.CreatePartition(table=T, partition=P),
        admin.DropPartition(table=T, partition=P),
    ),
    "drop partition": (
        admin.DropPartition(table=T, partition=PartitionSpec.parse("p=0")),
        admin.DropPartition(table=T, partition=P),
    ),
    "create tag": (changes.CreateTag(table=T, name="a"), changes.CreateTag(table=T, name="b")),
    "drop tag": (changes.DropTag(table=T, name="old"), changes.DropTag(table=T, name="a")),
}  # fmt: skip


@pytest.fixture
def call(house: Any) -> Any:
    house.create(SCHEMA, ["p"])
    house.engine.call(admin.CreatePartition(table=T, partition=PartitionSpec.parse("p=0")))
    house.engine.call(admin.CreateSchema(project="demo", schema="old"))
    house.engine.call(changes.CreateTag(table=T, name="old"))
    return house.engine.call


def keyed(request: Any, key: str = "k") -> Any:
    return msgspec.structs.replace(request, idempotency_key=key)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_repetition_is_answered_like_the_first(call: Any, name: str) -> None:
    request, other = REQUESTS[name]
    first = call(keyed(request))
    assert call(keyed(request)) == first
    with pytest.raises(KeyReusedError):
        call(keyed(other))
    assert call(keyed(request)) == first


@pytest.mark.parametrize("name", REQUESTS)
def test_repetitions_at_once_are_answered_alike(call: Any, name: str) -> None:
    """Whoever is impatient sends the second before the first was answered."""
    request = keyed(REQUESTS[name][0])
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(call, [request] * 4)
    assert others == [first] * 3


def test_a_repeated_drop_leaves_what_others_made_since(call: Any, house: Any) -> None:
    drop = keyed(admin.DropTable(table=T))
    call(drop)
    made = house.create(SCHEMA)
    call(drop)
    assert call(admin.DescribeTable(table=T)).table_id == made.table_id
    call(keyed(admin.DropTable(table=T), "another"))
    with pytest.raises(NoSuchTableError):
        call(admin.DescribeTable(table=T))


def test_what_found_nothing_to_do_finds_nothing_again(call: Any, house: Any) -> None:
    other = TableName("demo", "other")
    drop = keyed(admin.DropTable(table=other, if_exists=True))
    create = keyed(admin.CreateTable(table=T, arrow_schema=MESSAGE, if_not_exists=True), "c")
    there = call(create)
    call(drop)
    house.create(SCHEMA, table=other)
    call(drop)
    assert call(admin.DescribeTable(table=other))
    call(changes.RenameTable(table=T, new_name="elsewhere"))
    again = call(create)
    assert (again.table_id, again.table.name) == (there.table_id, "elsewhere")
    with pytest.raises(NotFoundError):
        call(admin.DescribeTable(table=T))


def test_a_table_that_was_made_and_dropped_is_not_made_again(call: Any) -> None:
    new = TableName("demo", "new")
    create = keyed(admin.CreateTable(table=new, arrow_schema=MESSAGE))
    call(create)
    call(admin.DropTable(table=new))
    with pytest.raises(NoSuchTableError, match="was done, and the table was dropped since"):
        call(create)


def test_a_key_is_one_of_its_name(call: Any, house: Any) -> None:
    """One that is made of a date, say, is used for several tables."""
    house.create(SCHEMA, table=TableName("demo", "u"))
    call(keyed(admin.DropTable(table=T)))
    call(keyed(admin.DropTable(table=TableName("demo", "u"))))
    with pytest.raises(NoSuchTableError):
        call(admin.DescribeTable(table=TableName("demo", "u")))
