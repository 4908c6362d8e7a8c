"""Table administration: names, limits, ids, paging, partitions, new columns."""

from __future__ import annotations

import functools
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.conftest import House, T, on_both_databases

from fletching import ipc
from fletching.engine.tables.partitions import (
    canonical_type,
    canonical_value,
    full_values,
    matching_values,
)
from fletching.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NoSuchPartitionError,
    NoSuchProjectError,
    NoSuchTableError,
)
from fletching.ipc import lowlevel
from fletching.protocol.messages.admin import (
    AddColumns,
    CreatePartition,
    CreateTable,
    DescribeTable,
    DropPartition,
    DropTable,
    ListPartitions,
    ListTables,
)
from fletching.protocol.messages.changes import AlterTable, RenameTable
from fletching.protocol.types.blob_type import blob
from fletching.sql.statements.table_properties import PARTITION_TIERS, declared_tiers
from fletching.types import PartitionSpec, TableName

SCHEMA = pa.schema([("id", pa.int64())])


def request(table: TableName, schema: Any = SCHEMA, **options: Any) -> CreateTable:
    return CreateTable(table=table, arrow_schema=lowlevel.encode_schema(schema), **options)


def test_a_table_is_described_as_it_was_made(house: Any) -> None:
    schema = pa.schema(
        [
            pa.field("c1", pa.int64(), nullable=False),
            pa.field("c2", pa.list_(pa.string()), metadata={"comment": "words"}),
            ("c3", pa.struct([("a", pa.int8()), ("b", blob())])),
        ]
    )
    made = house.engine.call(
        request(
            house.table, schema, partition_columns=(("pt", "STRING"), ("day", "bigint")),
            comment="hello", properties={"k": "v"}, primary_key=("C1",), lifecycle_days=7,
        )
    )  # fmt: skip
    info = house.describe()
    assert info == made
    assert lowlevel.BatchDecoder(next(iter(ipc.messages(info.arrow_schema)))).schema.equals(
        schema, check_metadata=True
    )
    columns = {column.name: column for column in info.schema.data_columns}
    # ids count every node depth-first, from 1
    assert [column.column_ids for column in info.schema.data_columns] == [(1,), (2, 3), (4, 5, 6)]
    assert [column.column_ids for column in info.schema.partition_columns] == [(7,), (8,)]
    assert columns["c1"].primary_key
    assert not columns["c1"].nullable
    assert columns["c2"].comment == "words"
    assert columns["c3"].type == "struct<a:tinyint,b:blob>"
    assert [(c.name, c.type) for c in info.schema.partition_columns] == [
        ("pt", "string"),
        ("day", "bigint"),
    ]
    assert (info.primary_key, info.lifecycle_days, info.comment, info.properties) == (
        ("c1",),
        7,
        "hello",
        {"k": "v"},
    )
    assert (info.version, info.schema_version, info.rows) == (0, 1, 0)


def test_names_are_unique_whatever_their_case(house: Any) -> None:
    house.create(SCHEMA)
    upper = TableName("DEMO", "T")
    with pytest.raises(AlreadyExistsError):
        house.create(SCHEMA, table=upper)
    again = house.engine.call(request(upper, pa.schema([("x", pa.int8())]), if_not_exists=True))
    assert again.table.name == "t"
    assert house.describe(upper).table_id == again.table_id
    # a schema is a namespace of its own
    house.create(SCHEMA, table=TableName("demo", "t", "other"))


def test_a_dropped_name_is_free(house: Any) -> None:
    first = house.create(SCHEMA)
    house.append(pa.table({"id": pa.array([1], pa.int64())}))
    house.engine.call(DropTable(table=house.table))
    with pytest.raises(NoSuchTableError):
        house.describe()
    with pytest.raises(NoSuchTableError):
        house.engine.call(DropTable(table=house.table))
    house.engine.call(DropTable(table=house.table, if_exists=True))
    second = house.create(SCHEMA)
    assert second.table_id != first.table_id
    assert house.read().num_rows == 0


@pytest.mark.parametrize(
    ("name", "schema", "options"),
    [
        ("", SCHEMA, {}),
        ("a.b", SCHEMA, {}),
        ("a-b", SCHEMA, {}),
        ("é", SCHEMA, {}),
        ("x" * 129, SCHEMA, {}),
        ("t", pa.schema([]), {}),
        ("t", pa.schema([("a", pa.int8()), ("A", pa.int8())]), {}),
        ("t", pa.schema([("", pa.int8())]), {}),
        ("t", pa.schema([("a\n", pa.int8())]), {}),
        ("t", pa.schema([("a`", pa.int8())]), {}),
        ("t", pa.schema([("a" * 256, pa.int8())]), {}),
        ("t", SCHEMA, {"partition_columns": (("ID", "string"),)}),
        ("t", SCHEMA, {"partition_columns": (("pt", "double"),)}),
        ("t", SCHEMA, {"partition_columns": (("pt", "nonsense("),)}),
        ("t", SCHEMA, {"partition_columns": tuple((f"p{n}", "string") for n in range(17))}),
        ("t", SCHEMA, {"primary_key": ("none",)}),
        ("t", SCHEMA, {"primary_key": ("id", "ID")}),
        ("t", SCHEMA, {"lifecycle_days": 0}),
        ("t", SCHEMA, {"comment": "x" * 8193}),
    ],
)
def test_what_cannot_be_a_table(house: Any, name: str, schema: Any, options: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        house.engine.call(request(TableName("demo", name), schema, **options))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"junk",
        lowlevel.encode_schema(SCHEMA)[:-4],
        lowlevel.encode_schema(SCHEMA) * 2,
        b"\xff" * (5 << 20),
    ],
)
def test_a_schema_that_cannot_be_read(house: Any, message: bytes) -> None:
    with pytest.raises(InvalidArgumentError):
        house.engine.call(CreateTable(table=house.table, arrow_schema=message))


def test_columns_have_a_limit(open_house: Any) -> None:
    house = open_house(max_columns=2)
    with pytest.raises(InvalidArgumentError, match="1 to 2"):
        house.create(pa.schema([(name, pa.int8()) for name in "abc"]))


_A = pa.field("a", pa.int64())
NOT_STORABLE = [
    pa.dense_union([_A]),
    pa.sparse_union([_A]),
    pa.month_day_nano_interval(),
    pa.decimal128(5, -2),
    pa.struct([]),
    pa.struct([_A, _A]),
    pa.struct([_A, ("A", pa.int8())]),
    pa.struct([("\u017f", pa.int8()), ("s", pa.int8())]),
    pa.struct([("", pa.int8())]),
]
DEEP: pa.DataType = functools.reduce(lambda inner, _: pa.list_(inner), range(40), pa.int8())


@pytest.mark.parametrize("data_type", [*NOT_STORABLE, DEEP], ids=lambda item: str(item)[:40])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: inner,
        pa.list_,
        lambda inner: pa.struct([("s", inner)]),
        lambda inner: pa.map_(pa.string(), inner),
        lambda inner: pa.dictionary(pa.int8(), inner),
    ],
    ids=["itself", "list", "struct", "map", "dictionary"],
)
def test_types_that_some_client_cannot_name_are_refused(
    house: Any, data_type: Any, wrap: Any
) -> None:
    """A table with one could be listed and then neither written nor scanned by the others."""
    added = pa.schema([("n", pa.int8()), ("u", wrap(data_type))])
    with pytest.raises(InvalidArgumentError, match="'u'"):
        house.create(added)
    house.create(SCHEMA)
    with pytest.raises(InvalidArgumentError, match="'u'"):
        house.engine.call(AddColumns(table=house.table, arrow_schema=lowlevel.encode_schema(added)))


@pytest.mark.parametrize("name", [" a", "a ", "\u00a0a", "a\u3000", "\u2003", " "])
def test_names_that_begin_or_end_with_a_blank_are_refused(house: Any, name: str) -> None:
    added = pa.schema([(name, pa.int8())])
    with pytest.raises(InvalidArgumentError, match="blank"):
        house.create(added)
    with pytest.raises(InvalidArgumentError, match="blank"):
        house.engine.call(request(house.table, partition_columns=((name, "string"),)))
    house.create(SCHEMA)
    with pytest.raises(InvalidArgumentError, match="blank"):
        house.engine.call(AddColumns(table=house.table, arrow_schema=lowlevel.encode_schema(added)))


def test_tables_are_listed_in_pages(house: Any) -> None:
    for name in ("b", "a", "C", "ab", "d"):
        house.create(SCHEMA, table=TableName("demo", name))
    house.create(SCHEMA, table=TableName("demo", "elsewhere", "other"))

    def page(**options: Any) -> tuple[list[str], str]:
        result = house.engine.call(ListTables(project="demo", **options))
        return [info.table.name for info in result.tables], result.marker

    assert page() == (["a", "ab", "b", "C", "d"], "")
    assert page(max_items=2) == (["a", "ab"], "ab")
    assert page(max_items=2, marker="ab") == (["b", "C"], "C")
    assert page(max_items=2, marker="C") == (["d"], "")
    assert page(prefix="A") == (["a", "ab"], "")
    assert page(schema="other") == (["elsewhere"], "")
    with pytest.raises(InvalidArgumentError):
        page(max_items=0)


def test_unknown_projects(open_house: Any) -> None:
    house = open_house(create_projects=False)
    house.engine.ensure_project("demo")
    for call in (
        ListTables(project="none"),
        DescribeTable(table=TableName("none", "t")),
        request(TableName("none", "t")),
    ):
        with pytest.raises(NoSuchProjectError):
            house.engine.call(call)
    with pytest.raises(NoSuchTableError):
        house.engine.call(DescribeTable(table=TableName("demo", "t", "no_schema")))


def test_new_columns_are_null_in_old_rows(house: Any) -> None:
    house.create(SCHEMA, ["pt"])
    house.append(pa.table({"id": pa.array([1], pa.int64())}), "pt=a")
    added = pa.schema([("x", pa.list_(pa.int8())), ("y", pa.string())])
    info = house.engine.call(
        AddColumns(table=house.table, arrow_schema=lowlevel.encode_schema(added))
    )
    assert info.schema_version == 2
    assert [c.column_ids for c in info.schema.data_columns] == [(1,), (3, 4), (5,)]
    assert [c.column_ids for c in info.schema.partition_columns] == [(2,)]
    house.append(
        pa.table(
            {
                "id": pa.array([2], pa.int64()),
                "y": ["new"],
                "x": pa.array([[1]], pa.list_(pa.int8())),
            }
        ),
        "pt=a",
    )
    assert house.read().to_pylist() == [
        {"id": 1, "x": None, "y": None, "pt": "a"},
        {"id": 2, "x": [1], "y": "new", "pt": "a"},
    ]
    for wrong in (
        pa.schema([("ID", pa.int8())]),
        pa.schema([("pt", pa.int8())]),
        pa.schema([pa.field("z", pa.int8(), nullable=False)]),
    ):
        with pytest.raises(InvalidArgumentError):
            house.engine.call(
                AddColumns(table=house.table, arrow_schema=lowlevel.encode_schema(wrong))
            )
    assert house.describe().schema_version == 2


# --- partitions ---


def spec(text: str) -> PartitionSpec:
    return PartitionSpec.parse(text)


def test_partitions_are_added_listed_and_dropped(house: Any) -> None:
    house.create(SCHEMA, ["pt", "hh"])
    call = house.engine.call
    for text in ("pt=b,hh=1", "pt=a,hh=2", "hh=10,PT=a"):
        call(CreatePartition(table=house.table, partition=spec(text)))
    with pytest.raises(AlreadyExistsError):
        call(CreatePartition(table=house.table, partition=spec("pt=b,hh=1")))
    call(CreatePartition(table=house.table, partition=spec("pt=b,hh=1"), if_not_exists=True))
    house.append(pa.table({"id": pa.array([1, 2], pa.int64())}), "pt=b,hh=1")

    def page(**options: Any) -> tuple[list[str], str]:
        partition = call(ListPartitions(table=house.table, **options))
        return [str(item.partition) for item in partition.partitions], partition.marker

    every = ["pt=a,hh=10", "pt=a,hh=2", "pt=b,hh=1"]
    assert page() == (every, "")
    assert page(reverse=True) == (every[::-1], "")
    assert page(prefix=spec("pt=a")) == (every[:2], "")
    assert page(prefix=spec("hh=1")) == (every[2:], "")
    assert page(max_items=2) == (every[:2], every[1])
    assert page(max_items=2, marker=every[1]) == (every[2:], "")
    assert page(max_items=1, marker=every[1], reverse=True) == (every[:1], "")
    with pytest.raises(InvalidArgumentError):
        page(marker="nonsense")
    partition = call(ListPartitions(table=house.table, prefix=spec("pt=b"))).partitions[0]
    assert (partition.rows, partition.bytes > 0) == (2, True)

    call(DropPartition(table=house.table, partition=spec("pt=b,hh=1")))
    assert page() == (every[:2], "")
    assert house.read().num_rows == 0
    assert house.describe().version == 2
    with pytest.raises(NoSuchPartitionError):
        call(DropPartition(table=house.table, partition=spec("pt=b,hh=1")))
    call(DropPartition(table=house.table, partition=spec("pt=b,hh=1"), if_exists=True))


def test_partitions_must_be_whole_and_the_tables_own(house: Any) -> None:
    house.create(SCHEMA, ["pt", "hh"])
    plain = TableName("demo", "plain")
    house.create(SCHEMA, table=plain)
    for table, text in (
        (house.table, "pt=a"),
        (house.table, "x=1,pt=a,hh=1"),
        (plain, "pt=a"),
        (plain, ""),
    ):
        for kind in (CreatePartition, DropPartition):
            with pytest.raises(InvalidArgumentError):
                house.engine.call(kind(table=table, partition=spec(text)))


COLUMNS = (("pt", "string"), ("day", "int"), ("on", "date"))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("string", "x y", "x y"),
        ("string", "07", "07"),
        ("bigint", "007", "7"),
        ("tinyint", "-128", "-128"),
        ("int", "0", "0"),
        ("date", "2026-01-02", "2026-01-02"),
        ("varchar(3)", "abc", "abc"),
    ],
)
def test_values_have_one_spelling(kind: str, value: str, expected: str) -> None:
    assert canonical_value("c", canonical_type("c", kind), value) == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", ""),
        ("string", "a\tb"),
        ("string", "x" * 1025),
        ("string", "é" * 513),
        ("string", "'\""),
        ("tinyint", "128"),
        ("int", "seven"),
        ("int", ""),
        ("bigint", str(2**63)),
        ("date", "2026-13-01"),
        ("date", "yesterday"),
    ],
)
def test_values_that_cannot_be(kind: str, value: str) -> None:
    with pytest.raises(InvalidArgumentError, match="column c"):
        canonical_value("c", kind, value)


def test_specifications_are_matched_by_name() -> None:
    assert full_values(COLUMNS, spec("on=2026-01-02,DAY=3,pt=x")) == ("x", "3", "2026-01-02")
    assert matching_values(COLUMNS, spec("day=3")) == {1: "3"}
    with pytest.raises(InvalidArgumentError, match="lacks a value for: pt, on"):
        full_values(COLUMNS, spec("day=3"))
    with pytest.raises(InvalidArgumentError, match="not a partition column"):
        matching_values(COLUMNS, spec("hour=3"))
    with pytest.raises(InvalidArgumentError, match="twice"):
        matching_values(COLUMNS, PartitionSpec((("pt", "a"), ("PT", "b"))))


def test_a_partition_has_a_property_of_its_own(house: Any) -> None:
    house.engine.call(request(house.table, partition_columns=(("pt", "bigint"),)))

    def alter(partition: str, **properties: str) -> Any:
        spec = PartitionSpec.parse(f"pt={partition}")
        wanted = AlterTable(table=house.table, partition=spec, set_properties=properties)
        return house.engine.call(wanted).properties

    for partition in ("1", "2"):
        spec = PartitionSpec.parse(f"pt={partition}")
        house.engine.call(CreatePartition(table=house.table, partition=spec))
    alter("1", storagetier="longterm")
    kept = alter("02", storagetier="standard")
    tiers = {values: tier for values, (_, tier) in declared_tiers(kept[PARTITION_TIERS]).items()}
    assert tiers == {("1",): "longterm", ("2",): "standard"}
    for partition, properties, error in (
        ("3", {"storagetier": "standard"}, NoSuchPartitionError),
        ("1", {"other": "x"}, InvalidArgumentError),
        ("x", {"storagetier": "standard"}, InvalidArgumentError),
    ):
        with pytest.raises(error):
            alter(partition, **properties)
    assert house.describe().properties == kept


@on_both_databases
def test_an_unlisted_table_is_renamed_once_and_answers_a_repetition(house: House) -> None:
    made = house.create(SCHEMA, unlisted=True)
    assert made.table == T.unlisted(made.table_id)
    assert made.table.wanted == T
    page = house.engine.call(ListTables(project=T.project))
    assert page.tables == ()
    with pytest.raises(NoSuchTableError):
        house.describe()
    rename = RenameTable(table=made.table, new_name=T.name, idempotency_key="k")
    first = house.engine.call(rename)
    assert house.engine.call(rename) == first
    assert house.describe().table_id == made.table_id
    with pytest.raises(InvalidArgumentError):
        house.engine.call(RenameTable(table=T, new_name=made.table.name))
    other = house.create(SCHEMA, unlisted=True, table=TableName(T.project, "u"))
    with pytest.raises(AlreadyExistsError):
        house.engine.call(RenameTable(table=other.table, new_name=T.name))
    with pytest.raises(AlreadyExistsError):
        house.create(SCHEMA, unlisted=True)
