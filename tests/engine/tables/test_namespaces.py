from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidArgumentError,
    NoSuchProjectError,
    NoSuchSchemaError,
)
from fletching.protocol.messages.admin import CreateSchema, DropSchema, DropTable, ListSchemas
from fletching.types import TableName


def names(house: Any) -> list[str]:
    page = house.engine.call(ListSchemas(project="demo"))
    return [info.schema for info in page.schemas]


def test_schemas_come_and_go(house: Any) -> None:
    house.engine.ensure_project("demo")
    assert names(house) == ["default"]
    house.engine.call(CreateSchema(project="demo", schema="S1"))
    house.engine.call(CreateSchema(project="DEMO", schema="a"))
    assert names(house) == ["a", "default", "S1"]
    with pytest.raises(AlreadyExistsError):
        house.engine.call(CreateSchema(project="demo", schema="s1"))
    house.engine.call(CreateSchema(project="demo", schema="s1", if_not_exists=True))
    with pytest.raises(AlreadyExistsError):
        house.engine.call(CreateSchema(project="demo", schema="default"))
    house.engine.call(DropSchema(project="demo", schema="s1"))
    assert names(house) == ["a", "default"]
    with pytest.raises(NoSuchSchemaError):
        house.engine.call(DropSchema(project="demo", schema="s1"))
    house.engine.call(DropSchema(project="demo", schema="s1", if_exists=True))


def test_a_schema_with_tables_stays(house: Any) -> None:
    table = TableName("demo", "t", "space")
    house.create(pa.schema([("a", pa.int64())]), table=table)
    assert names(house) == ["default", "space"]
    with pytest.raises(ConflictError, match="still has tables, such as t"):
        house.engine.call(DropSchema(project="demo", schema="space"))
    house.engine.call(DropTable(table=table))
    house.engine.call(DropSchema(project="demo", schema="space"))


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 129, "a.b"])
def test_names_are_plain(house: Any, name: str) -> None:
    house.engine.ensure_project("demo")
    with pytest.raises(InvalidArgumentError):
        house.engine.call(CreateSchema(project="demo", schema=name))


def test_the_default_schema_stays_and_projects_must_exist(house: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        house.engine.call(DropSchema(project="demo", schema="Default"))


def test_projects_come_into_being_by_use_or_must_exist(open_house: Any) -> None:
    requests = (
        ListSchemas(project="nobody"),
        DropSchema(project="nobody", schema="s", if_exists=True),
        CreateSchema(project="nobody", schema="s"),
    )
    strict = open_house(create_projects=False)
    for request in requests:
        with pytest.raises(NoSuchProjectError):
            strict.engine.call(request)
    strict.engine.close()
    house = open_house()
    with pytest.raises(NoSuchSchemaError):
        house.engine.call(DropSchema(project="nobody", schema="s"))
    for request in requests:
        house.engine.call(request)
    page = house.engine.call(ListSchemas(project="nobody"))
    assert [info.schema for info in page.schemas] == ["default", "s"]
