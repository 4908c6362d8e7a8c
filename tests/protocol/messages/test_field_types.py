"""Values of requests are of the types that their fields say, whoever made them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import fletching.protocol.messages.admin
import fletching.protocol.messages.changes  # noqa: F401  # their requests are known once imported
from fletching.errors import UsageError
from fletching.protocol.messages.admin import CreateTable, ListTables, RunStatement
from fletching.protocol.messages.changes import AlterTable, CreateTag, DeleteRows, DropColumns
from fletching.protocol.messages.field_types import _fields, check_field_types
from fletching.protocol.messages.requests import CommitWriteSession, Request
from fletching.types import TableName

TABLE = TableName("demo", "t")


def kinds(root: type[Request] = Request) -> Iterator[type[Request]]:
    for kind in root.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_every_field_of_every_request_can_be_looked_at() -> None:
    result = [field for kind in kinds() for field in _fields(kind)]
    assert len(result) > 150
    assert all(wanted for _, _, _, wanted in result)


GOOD: list[Request] = [
    DeleteRows(table=TABLE, where="a = 1", if_version=None, idempotency_key="k"),
    DeleteRows(table=TABLE, where="a = 1", if_version=3, idempotency_key="k"),
    DropColumns(table=TABLE, names=("a", "b")),
    AlterTable(table=TABLE, set_properties={"a": "b"}),
    CommitWriteSession(table=TABLE, session_id="s", streams=(("a", 1), ("b", 2))),
    RunStatement(project="p", schema="s", text="x", wait_seconds=1, instance_id="i"),
    RunStatement(project="p", schema="s", text="x", wait_seconds=0.5, instance_id="i"),
]


@pytest.mark.parametrize("request_", GOOD, ids=lambda each: type(each).__name__)
def test_values_of_their_types_pass(request_: Request) -> None:
    check_field_types(request_)


def bad(kind: Any, message: str, **values: Any) -> Any:
    return pytest.param(kind, values, message, id=message)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        bad(ListTables, "prefix is text, not 5", project="p", schema="s", prefix=5),
        bad(CreateTag, "replace is True or False, not 'x'", table=TABLE, name="a", replace="x"),
        bad(CreateTag, "version is a whole number or None, not True", table=TABLE, name="a", version=True),
        bad(CreateTag, "table is a TableName, not 't'", table="t", name="a"),
        bad(DropColumns, "names is a list, each text, not tuple", table=TABLE, names=("a", 1)),
        bad(DropColumns, "names is a list, each text, not list", table=TABLE, names=["a"]),
        bad(AlterTable, "a dict of text to text, not dict", table=TABLE, set_properties={"a": 1}),
        bad(AlterTable, "a dict of text to text, not dict", table=TABLE, set_properties={1: "a"}),
        bad(CreateTable, "arrow_schema is bytes, not 'x'", table=TABLE, arrow_schema="x"),
        bad(RunStatement, "wait_seconds is a number, not True", project="p", schema="s", text="x", wait_seconds=True, instance_id="i"),
        bad(CommitWriteSession, "streams is", table=TABLE, session_id="s", streams=(("a", "1"),)),
        bad(CommitWriteSession, "streams is", table=TABLE, session_id="s", streams=(("a",),)),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_by_its_name(
    kind: type[Request], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        check_field_types(kind(**values))


def test_a_long_value_is_named_by_its_type_alone() -> None:
    with pytest.raises(UsageError, match=r"name is text, not int$"):
        check_field_types(CreateTag(table=TABLE, name=10**70))  # type: ignore[arg-type]


HALF = "\ud800"


@pytest.mark.parametrize(
    "request_",
    [
        DeleteRows(table=TABLE, where=f"a = '{HALF}'"),
        DeleteRows(table=TABLE, where="é", idempotency_key=HALF),
        DeleteRows(table=TableName("demo", HALF), where="a = 1"),
        DropColumns(table=TABLE, names=("a", HALF)),
        AlterTable(table=TABLE, set_properties={"a": HALF}),
        AlterTable(table=TABLE, set_properties={HALF: "a"}),
        CommitWriteSession(table=TABLE, session_id="s", streams=((HALF, 1),)),
    ],
    ids=lambda each: type(each).__name__,
)
def test_half_of_a_character_is_refused_before_anything_is_sent(request_: Request) -> None:
    with pytest.raises(UsageError, match="half of a character") as caught:
        check_field_types(request_)
    str(caught.value).encode()
