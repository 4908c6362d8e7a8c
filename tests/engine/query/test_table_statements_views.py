"""Views, CREATE .. AS and .. LIKE, CLONE, columns that are missing, and properties."""

from __future__ import annotations

import pyarrow as pa
import pytest

import fletching
from fletching.errors import AlreadyExistsError, FletchingError, InvalidArgumentError


@pytest.fixture
def shop(client: fletching.Client) -> fletching.Client:
    client.sql("""
        create table sale (id bigint not null, price decimal(10,2) comment 'net') partitioned by (pt string)
            comment 'sold' tblproperties ('team'='a') lifecycle 5;
        insert into sale partition (pt) values (1, 1.50BD, 'a'), (2, 20BD, 'b');
    """)
    return client


def test_created_as_a_query(shop: fletching.Client) -> None:
    assert (
        shop.sql("create table c lifecycle 3 as select id, price * 2 p from sale").affected_rows
        == 2
    )
    assert shop.table("c").info.lifecycle_days == 3
    with pytest.raises(AlreadyExistsError):
        shop.sql("create table c as select 1 x")
    assert shop.sql("create table if not exists c as select 1 x").affected_rows == 0
    with pytest.raises(FletchingError):
        shop.sql("create table broken as select cast(9223372036854775807 as bigint) + id from sale")
    assert "broken" not in shop.sql("show tables").text


def test_created_like_another(shop: fletching.Client) -> None:
    shop.sql("alter table sale disable lifecycle; create table l like sale")
    info = shop.table("l").info
    assert [column.name for column in info.schema.partition_columns] == ["pt"]
    assert info.properties == {"team": "a"}
    assert info.comment == "sold"
    assert info.lifecycle_days is None
    assert len(shop.sql("select * from l")) == 0


def test_cloned(shop: fletching.Client) -> None:
    shop.sql("clone table sale partition (pt='a') to copied")
    assert shop.sql("select id from copied").to_pylist() == [{"id": 1}]
    with pytest.raises(AlreadyExistsError):
        shop.sql("clone table sale to copied")
    shop.sql("clone table sale to copied if exists ignore")
    assert len(shop.sql("select id from copied")) == 1
    shop.sql("clone table sale to copied if exists overwrite")
    assert len(shop.sql("select id from copied")) == 2


def test_tables_and_views_are_dropped_as_what_they_are(shop: fletching.Client) -> None:
    shop.sql("create view v as select id from sale")
    for statement in ("drop table v", "drop table if exists v"):
        with pytest.raises(
            InvalidArgumentError, match=r"v is a view: DROP VIEW drops it, at line 1"
        ):
            shop.sql(statement)
    for statement in ("drop view sale", "drop view if exists sale"):
        with pytest.raises(InvalidArgumentError, match="sale is a table: DROP TABLE drops it"):
            shop.sql(statement)
    assert len(shop.sql("select * from v")) == 2
    shop.sql("drop view v; drop table sale; drop view if exists v; drop table if exists sale")
    assert shop.sql("show tables").text == ""


def test_missing_columns(shop: fletching.Client) -> None:
    for _ in range(2):
        shop.sql("alter table sale add columns if not exists (ID bigint, note string)")
    assert shop.table("sale").schema.names == ["id", "price", "note", "pt"]


def test_views(shop: fletching.Client) -> None:
    shop.sql("create view v (a, b) comment 'c' lifecycle 7 as select id, price from sale")
    assert shop.sql("select * from v order by a").to_pylist()[0]["a"] == 1
    assert shop.table("v").info.lifecycle_days == 7
    with pytest.raises(InvalidArgumentError, match="names 1 columns, its query has 2"):
        shop.sql("create view w (a) as select id, price from sale")
    with pytest.raises(InvalidArgumentError, match="COMMENT and LIFECYCLE"):
        shop.sql("create view w tblproperties ('a'='b') as select 1 x")
    shop.sql("create or replace view v as select 7 x")
    assert shop.sql("select * from v").to_pylist() == [{"x": 7}]
    with pytest.raises(InvalidArgumentError, match="is a table: DROP TABLE"):
        shop.sql("drop view sale")
    with pytest.raises(InvalidArgumentError, match="is a view"):
        shop.sql("insert into v values (1)")
    shop.sql("drop view v; drop view if exists v")


@pytest.mark.parametrize(
    "moment", ["version as of 0", "version as of 99", "timestamp as of '2020-01-01'"]
)
def test_a_view_has_no_versions(shop: fletching.Client, moment: str) -> None:
    shop.sql("create view v as select * from sale version as of 1")
    assert len(shop.sql("select * from v")) == 2
    with pytest.raises(
        InvalidArgumentError, match=r"is a view, which has no versions.*line 1, column 15"
    ):
        shop.sql(f"select * from v {moment}")


@pytest.mark.parametrize(
    "text",
    [
        "alter table sale set tblproperties ('fletching.view.text'='select 1')",
        "alter table sale set tblproperties ('a'='b', ' FLETCHING.lifecycle'='x')",
        "alter table sale unset tblproperties ('fletching.view.text')",
        "create table z (a bigint) tblproperties ('fletching.clustering'='x')",
        "create table z tblproperties ('fletching.anything'='x') as select 1 a",
    ],
)
def test_properties_of_the_service_s_own_are_not_set(shop: fletching.Client, text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="the service's own"):
        shop.sql(text)
    assert shop.table("sale").info.properties == {"team": "a"}
    assert "z" not in shop.sql("show tables").text.split(":")


@pytest.mark.parametrize(
    "clauses",
    [
        "clustered by (id) sorted by (id desc) into 4 buckets",
        "range clustered by (id) into 8 buckets",
        "into 3 shards hublifecycle 7",
    ],
)
def test_what_is_shown_creates_the_same(shop: fletching.Client, clauses: str) -> None:
    shop.sql(f"create table s (id bigint, t string) {clauses}")
    before = shop.table("s").info.properties
    text = shop.sql("show create table s").text
    assert "fletching." not in text
    shop.sql("drop table s")
    shop.sql(text)
    assert shop.table("s").info.properties == before


def test_decimals_are_written_to_texts_without_zeros(shop: fletching.Client) -> None:
    shop.sql("create table texts (s string); insert into texts select price from sale")
    assert shop.sql("select s from texts order by s").to_table()["s"] == pa.chunked_array(
        [["1.5", "20"]]
    )


def test_a_view_has_no_rows_but_those_of_its_query(shop: fletching.Client) -> None:
    shop.sql("create view cheap as select id from sale where price < 10")
    view = shop.table("cheap")
    for use in (
        lambda: view.scan().to_table(),
        view.head,
        lambda: view.changes(0).to_table(),
        lambda: view.append({"id": [1]}),
        lambda: view.overwrite({"id": [1]}),
        lambda: view.delete("id = 1"),
        lambda: view.update({"id": "id + 1"}),
        view.truncate,
        lambda: view.restore(0),
        view.write_session,
        lambda: view.stream_writer("s").write({"id": [1]}),
    ):
        with pytest.raises(InvalidArgumentError, match="is a view"):
            use()
    shop.table("sale").delete("id = 1")
    assert len(shop.sql("select * from cheap")) == 0
    shop.table("sale").restore(1)
    assert shop.sql("select * from cheap").to_pylist() == [{"id": 1}]
    shop.sql("drop view cheap")


def test_materialized_views_are_never_behind(shop: fletching.Client) -> None:
    shop.sql(
        "create materialized view if not exists m lifecycle 3 build deferred comment 'c' disable rewrite"
        " partitioned on (PT) as select id, pt from sale"
    )
    assert len(shop.sql("select * from m")) == 2
    shop.sql("insert into sale partition (pt='c') values (3, 1)")
    assert len(shop.sql("select * from m where pt = 'c'")) == 1
    for nothing in ("rebuild", "rebuild partition (pt='c')", "disable rewrite"):
        shop.sql(f"alter materialized view m {nothing}")
    with pytest.raises(InvalidArgumentError, match="REBUILD"):
        shop.sql("alter materialized view m enable rewrite")
    with pytest.raises(FletchingError):
        shop.sql("alter materialized view absent rebuild")
    shown = shop.sql("show create view m").text
    assert shown.startswith("CREATE MATERIALIZED VIEW IF NOT EXISTS")
    shop.sql("drop materialized view m")
    shop.sql(shown)
    assert shop.sql("show create table m").text == shown
    shop.sql("create table copied like m")
    assert shop.table("copied").info.properties == {}


@pytest.mark.parametrize(
    ("clause", "complaint"),
    [
        ("create materialized view m partitioned on (nope) as select id from sale", "nope"),
        ("create view m disable rewrite as select id from sale", "COMMENT and LIFECYCLE"),
        ("create view m partitioned on (id) as select id from sale", "COMMENT and LIFECYCLE"),
        ("create materialized view m tblproperties ('a'='b') as select id from sale", "takes"),
        ("create table m (a bigint) disable rewrite", "not support"),
        ("create table m (a bigint) partitioned on (a)", "not support"),
    ],
)
def test_clauses_of_other_views(shop: fletching.Client, clause: str, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=complaint):
        shop.sql(clause)
    assert shop.sql("show tables").text.split(":")[-1] == "sale"


@pytest.mark.parametrize(
    "definition",
    [
        "(a, A) as select id, id from sale",
        "lifecycle 0 as select 1 x",
    ],
)
def test_a_view_that_cannot_be_made_does_not_cost_the_one_that_there_is(
    shop: fletching.Client, definition: str
) -> None:
    shop.sql("create view v as select id from sale")
    with pytest.raises(FletchingError):
        shop.sql(f"create or replace view v {definition}")
    assert shop.sql("select * from v").to_table().num_rows == 2
    shop.sql("create or replace view v as select id, price from sale")
    assert shop.sql("select * from v").to_table().column_names == ["id", "price"]
    with pytest.raises(InvalidArgumentError, match="is a table"):
        shop.sql("create or replace view sale as select 1 x")
