"""Columns that change: ids stay, wider types alone, keys as they are, and fields inside of structs."""

from __future__ import annotations

import pyarrow as pa
import pytest

from fletching.engine.tables.columns import Columns, altered, dropped, renamed, with_nested
from fletching.errors import InvalidArgumentError
from fletching.protocol.messages.changes import AlterColumn
from fletching.protocol.types.table_schema import arrow_field, field_comment, parse_type
from fletching.types import TableName

SCHEMA = pa.schema(
    [
        pa.field("Id", pa.int32(), nullable=False),
        ("s", pa.struct([("a", pa.int64()), ("b", pa.struct([("c", pa.string())]))])),
        pa.field("n", pa.float32(), nullable=False),
    ],
    metadata={"made": "here"},
)
COLUMNS = Columns(SCHEMA, ((1,), (2, 3, 4, 5), (6,)), 7, ("Id",))


def ask(name: str, **what: object) -> AlterColumn:
    return AlterColumn(table=TableName("p", "t"), name=name, **what)  # type: ignore[arg-type]


def test_dropping() -> None:
    columns = dropped(COLUMNS, ["N", "s"])
    assert (columns.schema.names, columns.ids, columns.next_id) == (["Id"], ((1,),), 7)
    assert columns.schema.metadata == SCHEMA.metadata
    for names, words in (
        ([], "once"), (["n", "N"], "once"), (["id"], "primary key"), (["x"], "no data column"),
    ):  # fmt: skip
        with pytest.raises(InvalidArgumentError, match=words):
            dropped(COLUMNS, names)
    with pytest.raises(InvalidArgumentError, match="at least one"):
        dropped(Columns(pa.schema([("a", pa.int8())]), ((1,),), 2, ()), ["a"])


def test_renaming_keeps_ids_and_the_key() -> None:
    columns = renamed(COLUMNS, "ID", "key")
    assert (columns.schema.names, columns.ids, columns.key) == (
        ["key", "s", "n"],
        COLUMNS.ids,
        ("key",),
    )
    assert columns.index("KEY") == 0
    assert columns.is_key(0)


@pytest.mark.parametrize(
    ("had", "wanted", "can"),
    [
        ("tinyint", "bigint", True), ("bigint", "int", False), ("float", "double", True),
        ("double", "float", False), ("int", "double", False), ("decimal(10,2)", "decimal(12,2)", True),
        ("decimal(10,2)", "decimal(12,3)", False), ("decimal(10,2)", "decimal(9,2)", False),
        ("varchar(3)", "varchar(5)", True), ("varchar(5)", "varchar(3)", False), ("char(3)", "varchar(3)", True),
        ("varchar(3)", "char(3)", False), ("char(3)", "string", True), ("string", "varchar(9)", False),
        ("date", "timestamp", False), ("int", "int", True), ("int", "nonsense", False),
    ],
)  # fmt: skip
def test_only_types_that_hold_every_value(had: str, wanted: str, can: bool) -> None:
    columns = Columns(pa.schema([arrow_field("c", parse_type(had))]), ((1,),), 2, ())
    if can:
        result = altered(columns, ask("c", type=wanted))
        assert result.schema.field(0).type == arrow_field("c", parse_type(wanted)).type
        assert result.ids == columns.ids
    else:
        with pytest.raises(InvalidArgumentError, match="c"):
            altered(columns, ask("c", type=wanted))


def test_nulls_comments_and_places() -> None:
    columns = altered(COLUMNS, ask("n", nullable=True, comment="later", after=""))
    assert columns.schema.names == ["n", "Id", "s"]
    assert columns.ids == ((6,), (1,), (2, 3, 4, 5))
    assert columns.schema.field(0).nullable
    assert field_comment(columns.schema.field(0)) == "later"
    assert altered(columns, ask("n", comment="")).schema.field(0).metadata == {}
    assert altered(COLUMNS, ask("id", after="s")).schema.names == ["s", "Id", "n"]
    assert altered(COLUMNS, ask("id", type="bigint")).schema.field(0).type == pa.int64()
    for request, words in (
        (ask("s", nullable=False), "may be null"), (ask("id", nullable=True), "primary key"),
        (ask("n", comment="x" * 8193), "8192"), (ask("n", after="n"), "behind itself"),
        (ask("n", after="zz"), "no data column"), (ask("zz"), "no data column"),
    ):  # fmt: skip
        with pytest.raises(InvalidArgumentError, match=words):
            altered(COLUMNS, request)


def test_fields_inside_of_structs() -> None:
    added = pa.schema(
        [
            ("s.b.d", pa.list_(pa.int8())),
            ("S.e", pa.int8()),
            ("plain", pa.int8()),
            ("n.x", pa.int8()),
        ]
    )
    columns, others = with_nested(COLUMNS, added)
    assert [field.name for field in others] == ["plain", "n.x"]
    kind = columns.schema.field("s").type
    assert [field.name for field in kind] == ["a", "b", "e"]
    assert [field.name for field in kind.field("b").type] == ["c", "d"]
    assert columns.ids[1] == (2, 3, 4, 5, 7, 8, 9)
    assert columns.next_id == 10
    for name, words in (("s.a", "already"), ("s.x.y", "no struct x"), ("s.a.y", "no struct a")):
        with pytest.raises(InvalidArgumentError, match=words):
            with_nested(COLUMNS, pa.schema([(name, pa.int8())]))
