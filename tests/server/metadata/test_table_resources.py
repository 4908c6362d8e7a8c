"""What statements change of a table, as clients look it up again."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import Any

import pytest
from tests.server.metadata.rest_calls import get, run_sql, xml

STATES = "taskstatus"


def run(client: Any, statement: str) -> None:
    instance = run_sql(client, statement)
    task = xml(get(client, f"/instances/{instance}", **{STATES: ""})).find("Tasks/Task")
    assert task is not None
    assert task.findtext("Status") == "Success", get(
        client, f"/instances/{instance}", result=""
    ).body


def document(client: Any, name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(
        xml(get(client, f"/tables/{name}", extended="")).findtext("Schema") or ""
    )
    return result


def columns(client: Any, name: str) -> dict[str, str]:
    return {column["name"]: column["type"] for column in document(client, name)["columns"]}


def test_comments_of_every_column_are_kept(client: Any) -> None:
    run(
        client,
        "create table t (a bigint comment '值') comment 'c' partitioned by (p string comment '分区', q int)",
    )
    result = document(client, "t")
    assert [column["comment"] for column in result["columns"]] == ["值"]
    assert [column["comment"] for column in result["partitionKeys"]] == ["分区", ""]
    run(client, "create table u like t")
    assert document(client, "u")["partitionKeys"] == result["partitionKeys"]
    shown = run_sql(client, "show create table t")
    assert shown


def test_the_owner_is_who_made_it_until_it_is_given_away(client: Any, granted: Any) -> None:
    run(client, "create table t (a bigint)")
    assert document(client, "t")["owner"] == client.access_id
    run(client, r"alter table t changeowner to 'ALIYUN$o\'brien@x.com'")
    assert document(client, "t")["owner"] == "ALIYUN$o'brien@x.com"
    listed = xml(get(client, "/tables", owner="ALIYUN$o'brien@x.com"))
    assert listed.findtext("Table/Name") == "t"
    assert xml(get(client, "/tables", owner=client.access_id)).find("Table") is None
    writer = granted(("demo", "*", "write"))
    refused = run_sql_refused(writer, "alter table t changeowner to 'me'")
    assert refused.json["Code"] == "NoPermission"


def run_sql_refused(client: Any, statement: str) -> Any:
    body = f"<Instance><Job><Tasks><SQL><Query>{statement}</Query></SQL></Tasks></Job></Instance>"
    return client.request("POST", "/api/projects/demo/instances", {}, body.encode())


def test_touching(client: Any, server: Any) -> None:
    run(client, "create table t (a bigint) partitioned by (p string)")
    run(client, "alter table t add partition (p='x')")

    def times() -> tuple[int, int]:
        part = json.loads(xml(get(client, "/tables/t", partition="p='x'")).findtext("Schema") or "")
        return document(client, "t")["lastModifiedTime"], part["lastModifiedTime"]

    table_before, part_before = times()
    context = server.service.engine.context
    clock = context.clock
    object.__setattr__(context, "clock", lambda: clock() + 100)
    run(client, "alter table t touch")
    table_after, part_after = times()
    assert table_after >= table_before + 100
    assert part_after == part_before
    run(client, "ALTER TABLE t TOUCH PARTITION (p='x');")
    assert times()[1] >= part_before + 100
    missing = run_sql(client, "alter table t touch partition (p='y')")
    task = xml(get(client, f"/instances/{missing}", taskstatus="")).find("Tasks/Task")
    assert task is not None
    assert task.findtext("Status") == "Failed"


def test_columns_come_and_go(client: Any) -> None:
    run(client, "create table t (a bigint)")
    run(client, "alter table t add column b string;")
    run(client, "alter table demo.t add column c double")
    run(client, "alter table t add columns if not exists (b string, d bigint)")
    run(client, "alter table t add columns if not exists (b string)")
    run(client, "alter table t change column d rename to e")
    run(client, "alter table t change column a aa bigint comment 'new'")
    assert columns(client, "t") == {"aa": "bigint", "b": "string", "c": "double", "e": "bigint"}
    run(client, "alter table t drop columns `b`, `e`")
    assert columns(client, "t") == {"aa": "bigint", "c": "double"}


def test_shards_are_kept_and_reported(client: Any) -> None:
    run(client, "create table t (a bigint) into 10 shards hublifecycle 5")
    result = document(client, "t")
    assert result["shardExist"] is True
    assert (result["shardInfo"]["ShardNum"], result["shardInfo"]["HubLifecycle"]) == (10, 5)
    assert "tableProperties" not in result
    run(client, "create table u (a bigint) lifecycle 3 into 2 shards")
    assert document(client, "u")["shardInfo"]["HubLifecycle"] == 0
    assert document(client, "u")["lifecycle"] == 3
    # No statement sets what the clauses are kept in.
    refused = run_sql(client, "alter table u set tblproperties ('fletching.shards'='many')")
    task = xml(get(client, f"/instances/{refused}", **{STATES: ""})).find("Tasks/Task")
    assert task is not None
    assert task.findtext("Status") == "Failed"
    assert document(client, "u")["shardInfo"]["ShardNum"] == 2


def test_clusters_and_tiers_are_kept_and_reported(client: Any) -> None:
    run(client, "create table t (a bigint, b string) range clustered by (a) sorted by (b desc)")
    run(client, "alter table t set tblproperties ('storagetier'='lowfrequency')")
    result = json.loads(document(client, "t")["Reserved"])
    assert (result["ClusterType"], result["BucketNum"], result["ClusterCols"]) == (
        "range",
        0,
        ["a"],
    )
    assert result["SortCols"] == [{"col": "b", "order": "DESC"}]
    assert result["StorageTier"] == "lowfrequency"
    run(client, "alter table t drop column b")
    assert "ClusterType" not in json.loads(document(client, "t")["Reserved"])


def test_tiers_of_partitions_are_kept_and_reported(client: Any) -> None:
    def tier(partition: str) -> str | None:
        root = xml(get(client, "/tables/t", partition=partition, extended=""))
        reserved = json.loads(json.loads(root.findtext("Schema") or "")["Reserved"])
        return reserved.get("StorageTier")

    run(client, "create table t (a bigint) partitioned by (pt int, region string)")
    run(client, "alter table t add partition (pt='7', region='x') partition (pt='8', region='x')")
    setting = "set partitionproperties ('storagetier'='LowFrequency')"
    run(client, f"alter table t partition (region='x', pt='07') {setting}")
    assert [tier(f"pt={day},region=x") for day in (7, 8)] == ["lowfrequency", None]
    run(
        client,
        "alter table t partition (pt=7, region='x') set partitionproperties ('storagetier'='standard')",
    )
    assert tier("pt=7,region=x") == "standard"
    # One that is made anew is another.
    run(client, "alter table t drop partition (pt=7, region='x')")
    run(client, "alter table t add partition (pt=7, region='x')")
    assert tier("pt=7,region=x") is None
    for text in (
        f"alter table t partition (pt=9, region='x') {setting}",
        "alter table t partition (pt=7, region='x') set partitionproperties ('storagetier'='x')",
        "alter table t partition (pt=7, region='x') set partitionproperties ('lifecycle'='3')",
        f"alter table t partition (pt=7) {setting}",
    ):
        refused = xml(get(client, f"/instances/{run_sql(client, text)}", **{STATES: ""}))
        assert refused.findtext("Tasks/Task/Status") == "Failed"


def test_a_client_may_ask_for_tables_that_say_their_tier(client: Any) -> None:
    run(client, "set odps.tiered.storage.enable=true; create table t (a bigint)")
    assert json.loads(document(client, "t")["Reserved"])["StorageTier"] == "standard"
    run(client, "create table u (a bigint)")
    assert "StorageTier" not in json.loads(document(client, "u")["Reserved"])


def test_views_are_told_apart(client: Any) -> None:
    run(client, "create table t (a bigint)")
    run(client, "create view v as select a from t where a > 1")
    result = document(client, "v")
    assert result["isVirtualView"] is True
    assert "a > 1" in result["viewText"]
    assert "tableProperties" not in result
    for kind, names in (("VIRTUAL_VIEW", ["v"]), ("managed_table", ["t"]), ("EXTERNAL_TABLE", [])):
        listed = xml(get(client, "/tables", type=kind)).iterfind("Table")
        assert [(item.findtext("Name"), item.findtext("Type")) for item in listed] == [
            (name, kind.upper()) for name in names
        ]


@pytest.mark.parametrize(
    ("partition", "names", "expected"),
    [
        ("p", "a, p", [(1, "x"), (2, "y")]),
        ("p", "p, a", [(1, "x"), (2, "y")]),
        ("p", "a", [(1, "x"), (2, "y")]),
        ("p='z'", "a", [(1, "z"), (2, "z")]),
    ],
)
def test_dynamic_partitions_may_be_among_the_columns(
    client: Any, partition: str, names: str, expected: Any
) -> None:
    run(client, "create table t (a bigint) partitioned by (p string)")
    chosen = {"a, p": "a, p", "p, a": "p, a", "a": "a, p" if partition == "p" else "a"}[names]
    source = "(select 1 as a, 'x' as p union all select 2, 'y') s"
    run(client, f"insert into t partition ({partition}) ({names}) select {chosen} from {source}")
    reply = get(client, "/tables/t", data="", linenum="9", cols="a,p")
    lines = reply.body.decode().splitlines()[1:]
    assert sorted(lines) == [f"{a},{p}" for a, p in expected]


def test_a_partition_names_its_columns(client: Any) -> None:
    run(client, "create table t (a bigint) partitioned by (p string, q int)")
    run(client, "alter table t add partition (p='x', q='1')")
    root = xml(get(client, "/tables/t", partition="p='x',q='1'"))
    assert [(c.get("Name"), c.get("Value")) for c in root.iterfind("Column")] == [
        ("p", "x"),
        ("q", "1"),
    ]


def test_a_touch_is_seen_in_whole_seconds(client: Any) -> None:
    run(client, "create table t (a bigint)")
    before = document(client, "t")["lastModifiedTime"]
    moments = [before]
    for _ in range(2):
        run(client, "alter table t touch")
        moments.append(document(client, "t")["lastModifiedTime"])
    assert moments == sorted(set(moments))


def test_a_project_sent_as_a_schema_is_the_default_one(client: Any) -> None:
    run(client, "create table t (a bigint)")

    def names() -> list[str | None]:
        page = xml(get(client, "/tables", curr_schema="DEMO"))
        return [each.findtext("Name") for each in page.iterfind("Table")]

    assert names() == ["t"]
    assert xml(get(client, "/tables/t", curr_schema="demo")).findtext("Name") == "t"
    assert get(client, "/tables/t", curr_schema="other").status == 404
    run(client, "create schema demo")
    assert names() == []


def test_a_schema_is_described_as_json(client: Any) -> None:
    run(client, "create schema sales")
    shown = run_sql(client, "desc schema demo.SALES;")
    result = xml(get(client, f"/instances/{shown}", result="")).findtext("Tasks/Task/Result") or ""
    described = json.loads(base64.b64decode(result))
    assert (described["name"], described["type"]) == ("sales", "MANAGED")
    assert dt.datetime.fromisoformat(described["createTime"])
    missing = run_sql(client, "describe schema nothing")
    text = xml(get(client, f"/instances/{missing}", result="")).findtext("Tasks/Task/Result") or ""
    assert b"NoSuchSchema" in base64.b64decode(text)
    run(client, "create table schema (a bigint) partitioned by (p string)")
    run(client, "alter table schema add partition (p='1')")
    run(client, "desc schema")
    run(client, "desc schema partition (p='1')")
