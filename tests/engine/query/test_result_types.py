"""Types that DuckDB does not read are computed with all the same, or refused in words."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.engine.query.result_types import duck_arrow_type, duck_type_of
from fletching.errors import InvalidArgumentError
from fletching.protocol.types.arrow_types import odps_type_of_field
from fletching.protocol.types.odps_types import format_type

BARE = pa.decimal256(54, 18)
"""What a DECIMAL without digits is."""
READ = pa.decimal128(38, 18)


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (BARE, READ),
        (pa.decimal256(20, 4), pa.decimal128(20, 4)),
        (pa.decimal32(5, 2), pa.decimal128(5, 2)),
        (pa.float16(), pa.float32()),
        (pa.list_(BARE), pa.list_(READ)),
        (pa.large_list(BARE), pa.large_list(READ)),
        (pa.list_(BARE, 2), pa.list_(READ, 2)),
        (pa.map_(pa.string(), BARE), pa.map_(pa.string(), READ)),
        (
            pa.struct([("a", pa.list_(BARE)), ("b", pa.int8())]),
            pa.struct([("a", pa.list_(READ)), ("b", pa.int8())]),
        ),
        (pa.map_(pa.string(), pa.int64()), pa.map_(pa.string(), pa.int64())),
        (pa.list_view(pa.int64()), pa.list_view(pa.int64())),
    ],
)
def test_what_duckdb_is_handed(stored: Any, read: Any) -> None:
    assert duck_arrow_type(stored) == read


def test_types_in_words() -> None:
    assert duck_type_of(BARE) == "DECIMAL(38, 18)"
    for data_type in (pa.binary(), pa.large_binary(), pa.binary_view()):
        assert duck_type_of(data_type) == "BLOB"
    with pytest.raises(InvalidArgumentError):
        duck_type_of(pa.time32("s"))


@pytest.mark.parametrize(
    ("data_type", "value"),
    [
        (BARE, Decimal("1.5")),
        (pa.list_(BARE), [Decimal("1.5"), None]),
        (pa.map_(pa.string(), BARE), [("k", Decimal("1.5"))]),
        (pa.struct([("a", BARE)]), {"a": Decimal("1.5")}),
        (pa.float16(), 1.5),
    ],
    ids=str,
)
def test_statements_take_them(tmp_path: Path, data_type: Any, value: Any) -> None:
    with fletching.connect(tmp_path, create=True) as client:
        table = client.create_table("t", pa.table({"n": [1], "a": pa.array([value], data_type)}))
        assert client.sql("select a from t").to_table()["a"].to_pylist() == [value]
        client.sql("insert into t select 2, a from t")
        client.sql("insert into t values (3, null)")
        client.sql("update t set n = 4 where n = 1")
        client.sql("create table c as select * from t")
        assert client.sql("select count(a) c from c").to_table()["c"].to_pylist() == [2]
        rows = table.scan().to_table().sort_by("n")
        assert (rows["n"].to_pylist(), rows["a"].to_pylist()) == ([2, 3, 4], [value, None, value])
        assert rows["a"].type == data_type


def test_more_digits_than_statements_compute_with_are_refused(tmp_path: Path) -> None:
    large = Decimal("123456789012345678901234567890.5")
    with fletching.connect(tmp_path, create=True) as client:
        table = client.create_table("t", pa.table({"a": pa.array([large], BARE)}))
        assert table.scan().to_table()["a"].to_pylist() == [large]
        with pytest.raises(InvalidArgumentError, match="precision"):
            client.sql("select a from t").to_table()


DECLARED = {
    "j": "json",
    "c": "char(4)",
    "v": "varchar(10)",
    "n": "timestamp_ntz",
    "i": "interval_day_time",
    "m": "interval_year_month",
    "l": "array<timestamp_ntz>",
    "s": "struct<x:bigint,y:varchar(5)>",
}
"""Types whose Arrow forms are those of others."""
EVERY = ", ".join(DECLARED)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with fletching.connect(tmp_path_factory.mktemp("types"), create=True) as made:
        columns = ", ".join(f"{name} {kind}" for name, kind in DECLARED.items())
        made.sql(f"create table t ({columns}, k bigint)")
        yield made


def declared_kinds(client: Any, query: str) -> dict[str, str]:
    client.sql("drop table if exists made")
    client.sql(f"create table made as {query}")
    return {
        field.name: format_type(odps_type_of_field(field)) for field in client.table("made").schema
    }


@pytest.mark.parametrize(
    "query",
    [
        "select * from t",
        f"select {EVERY} from t",
        f"select {EVERY} from t where k > 1 order by k limit 3",
        f"select * from (select {EVERY} from t) u",
        f"with u as (select {EVERY} from t) select * from u",
        f"select {EVERY} from t union all select {EVERY} from t",
        f"select a.* from (select {EVERY} from t) a left join t b on a.n = b.n",
    ],
)
def test_results_tell_what_columns_were_declared_as(client: Any, query: str) -> None:
    kinds = declared_kinds(client, query)
    assert {name: kinds[name].lower().replace("`", "") for name in DECLARED} == DECLARED


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("max(n)", "timestamp_ntz"),
        ("coalesce(n, n)", "timestamp_ntz"),
        ("cast('2026-01-02 03:04:05' as timestamp_ntz)", "timestamp_ntz"),
        ("max(cast(n as timestamp))", "timestamp"),
        ("max(v)", "varchar(10)"),
        ("concat(max(v), 'x')", "string"),
        ("upper(max(v))", "string"),
        ("max(case when k = 1 then v else c end)", "string"),
        ("cast('{}' as json)", "json"),
        ("get_json_object(max(j), '$.a')", "string"),
    ],
)
def test_what_is_computed_is_told_as_what_it_is(client: Any, expression: str, kind: str) -> None:
    assert declared_kinds(client, f"select {expression} as x from t")["x"].lower() == kind


def test_columns_of_one_name_are_told_each_for_itself(client: Any) -> None:
    made = client.sql("select * from (select v, k from t) a join (select j as v, k from t) b")
    types = [format_type(odps_type_of_field(field)).lower() for field in made.to_table().schema]
    assert types == ["varchar(10)", "bigint", "json", "bigint"], types
