"""Instances over REST: what clients parse, filters that filter, cancelling."""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from tests.server.metadata.rest_calls import STOP, ended, get, post, put, run_sql, xml

ENDLESS = (
    "select count(*) from (select explode(sequence(1, 1000000)) as a) t"
    " cross join (select explode(sequence(1, 1000000)) as b) u where a * b < 0"
)


def job(kind: str, inside: str, name: str = "Anonymous") -> bytes:
    task = f"<{kind}><Name>{name}</Name>{inside}</{kind}>"
    return f"<Instance><Job><Guid>g1</Guid><Tasks>{task}</Tasks></Job></Instance>".encode()


def submit(client: Any, body: bytes) -> str:
    reply = post(client, "/instances", body)
    assert reply.status == 201, reply.body
    instance = str(reply.headers["location"].rsplit("/", 1)[1])
    while not ended(client, instance):
        pass  # each look waits for a while on the other side
    return instance


def task_of(client: Any, instance: str) -> Any:
    return xml(get(client, f"/instances/{instance}", taskstatus="")).find("Tasks/Task")


def result_of(client: Any, instance: str) -> tuple[str, Any]:
    task = xml(get(client, f"/instances/{instance}", result="")).find("Tasks/Task")
    assert task is not None
    result = task.find("Result")
    assert result is not None
    assert result.get("Transform") == "Base64"
    return base64.b64decode(result.text or "").decode(), task


def test_states(client: Any) -> None:
    instance = run_sql(client, "create table t (a bigint)")
    reply = get(client, f"/instances/{instance}")
    assert xml(reply).findtext("Status") == "Terminated"
    assert reply.headers["x-odps-owner"] == client.access_id
    task = task_of(client, instance)
    assert task.get("Type") == "SQL"
    assert task.findtext("Status") == "Success"
    failed = run_sql(client, "drop table absent")
    assert task_of(client, failed).findtext("Status") == "Failed"
    text, _ = result_of(client, failed)
    assert ET.fromstring(text).findtext("Code") == "NoSuchTable"
    assert get(client, "/instances/absent").json["Code"] == "NoSuchObject"


def test_the_source_is_what_was_submitted(client: Any) -> None:
    config = '<Config><Property><Name>settings</Name><Value>{"x": "1"}</Value></Property></Config>'
    instance = submit(client, job("SQL", f"{config}<Query>select 1 &lt; 2</Query>"))
    source = xml(get(client, f"/instances/{instance}", source=""))
    assert source.findtext("Tasks/SQL/Query") == "select 1 < 2"
    assert source.findtext("Guid") == "g1"
    assert json.loads(source.findtext("Tasks/SQL/Config/Property/Value") or "") == {"x": "1"}


def test_results_say_what_their_columns_are(client: Any) -> None:
    instance = run_sql(client, "select 1 as n, 'a\\001b' as s, array(1, null) as l, true as b")
    text, task = result_of(client, instance)
    assert text == '"n","s","l","b"\n"1","a\x01b","[1,\\N]","true"\n'
    assert task.findtext("Status") == "Success"
    descriptor = json.loads(task.findtext("ResultDescriptor") or "")
    assert descriptor["IsSelect"] is True
    assert descriptor["SelectResultStatus"] == "full"
    types = {c["Name"]: c["Type"] for c in descriptor["Schema"]["Columns"]}
    assert types["s"] == "string"
    assert types["b"] == "boolean"
    printed, task = result_of(client, run_sql(client, "show tables"))
    assert printed == ""
    assert task.find("ResultDescriptor") is None
    long = run_sql(client, "select explode(sequence(1, 10001)) as a")
    text, task = result_of(client, long)
    assert text.count("\n") == 10_001
    assert json.loads(task.findtext("ResultDescriptor") or "")["SelectResultStatus"] == "truncated"


def test_reports(client: Any) -> None:
    run_sql(client, "create table t (a bigint)")
    run_sql(client, "insert into t values (1), (2)")
    instance = run_sql(client, "select a from t")
    path = f"/instances/{instance}"
    asked = {"taskname": "AnonymousSQLTask"}
    reply = get(client, path, instancesummary="", **asked)
    assert reply.headers["x-odps-task-finalized"] == "true"
    summary = json.loads(reply.json["Instance"]["JsonSummary"])
    assert summary["Cost"]["Input"] >= 16
    for flag in ("instancedetail", "detail"):
        assert "mapReduce" in get(client, path, **{flag: ""}, **asked).json
    assert get(client, path, instancequota="", **asked).json["quotaName"] == "default"
    waiting = get(client, path, cached="").json
    assert waiting["instanceId"] == instance
    assert waiting["status"] == "Terminated"
    progress = xml(get(client, path, instanceprogress="AnonymousSQLTask", **asked))
    assert progress.findtext("Stage/FinishedPercentage") == "100"
    assert progress.findtext("Stage/OutputRecords") == "2"
    assert get(client, path, log="", id="x").body == b""
    assert get(client, path, info="", key="warnings", **asked).json == {"warnings": ""}
    assert get(client, path, info="", key="other", **asked).body == b""
    report = put(
        client, path, b"<Instance><Key>k</Key><Value>v</Value></Instance>", info="", **asked
    )
    assert report.status == 200
    assert report.headers["location"]


def test_listings_are_filtered(client: Any, granted: Any) -> None:
    other = granted(("demo", "*", "admin"))
    before = time.time() - 1
    mine = [run_sql(client, "show tables") for _ in range(3)]
    theirs = run_sql(other, "show tables")
    everything = [*mine, theirs]

    def listed(who: Any = client, **query: str) -> list[str | None]:
        return [
            item.text for item in xml(get(who, "/instances", **query)).iterfind("Instance/Name")
        ]

    assert listed() == everything[::-1]
    assert listed(onlyowner="yes") == mine[::-1]
    assert listed(other, onlyowner="yes") == [theirs]
    assert listed(onlyowner="no", status="Terminated") == everything[::-1]
    assert listed(status="Running") == listed(status="Suspended") == []
    assert listed(daterange=f"{before:.0f}:") == everything[::-1]
    assert listed(daterange=f":{before:.0f}") == []
    assert listed(daterange=f"{before - 100:.0f}:{before - 50:.0f}") == []
    assert listed(jobname="AnonymousSQLTask") == everything[::-1]
    assert listed(jobname="nothing") == []
    for wrong in (
        {"status": "odd"},
        {"daterange": "yesterday:"},
        {"daterange": "1_0:"},
        {"daterange": "nan:"},
        {"maxitems": "0"},
    ):
        assert get(client, "/instances", **wrong).status == 400
    result: list[str | None] = []
    marker = ""
    while True:
        root = xml(get(client, "/instances", maxitems="1", marker=marker))
        result += [item.text for item in root.iterfind("Instance/Name")]
        marker = root.findtext("Marker") or ""
        if not marker:
            break
    assert result == everything[::-1]
    assert get(client, "/instances", marker="gone").status == 404
    assert xml(get(client, "/cachedinstances")).findtext("Content") == "[]"
    ended = xml(get(client, "/cachedinstances", status="Terminated")).findtext("Content")
    assert [info["instanceId"] for info in json.loads(ended or "")] == everything[::-1]


def test_cancelling(client: Any) -> None:
    ended = run_sql(client, "show tables")
    again = put(client, f"/instances/{ended}", STOP)
    assert (again.status, again.json["Code"]) == (409, "InvalidStateSetting")
    instance = run_sql(client, ENDLESS, wait=False)
    assert xml(get(client, f"/instances/{instance}")).findtext("Status") == "Running"
    assert get(client, f"/instances/{instance}", instancesummary="").json == {}
    running = xml(get(client, "/instances", status="Running"))
    assert running.findtext("Instance/Name") == instance
    assert running.find("Instance/EndTime") is None
    assert put(client, f"/instances/{instance}", STOP).status == 200
    assert task_of(client, instance).findtext("Status") == "Cancelled"
    assert put(client, f"/instances/{instance}", b"nonsense").status == 400


def test_what_a_statement_costs(client: Any) -> None:
    run_sql(client, "create table t (a bigint)")
    run_sql(client, "insert into t values (1)")
    text, task = result_of(client, submit(client, job("SQLCost", "<Query>select * from t</Query>")))
    cost = json.loads(text)["Cost"]["SQL"]
    assert (cost["UDF"], cost["Complexity"]) == (0, 1.0)
    assert cost["Input"] >= 100
    assert task.get("Type") == "SQLCost"
    text, _ = result_of(
        client, submit(client, job("SQLCost", "<Query>insert into t select 1</Query>"))
    )
    assert json.loads(text)["Cost"]["SQL"]["Input"] == 0
    failed = submit(client, job("SQLCost", "<Query>select * from absent</Query>"))
    assert task_of(client, failed).findtext("Status") == "Failed"
    many = "select a, count(distinct a) from t join t u on t.a = u.a group by a order by a limit 1"
    text, _ = result_of(client, submit(client, job("SQLCost", f"<Query>{many}</Query>")))
    assert json.loads(text)["Cost"]["SQL"]["Complexity"] == 1.5


def test_merging_files(client: Any) -> None:
    run_sql(client, "create table t (a bigint)")
    for number in range(8):
        run_sql(client, f"insert into t values ({number})")
    merge = submit(client, job("Merge", "<TableName>demo.t</TableName>", "m"))
    task = task_of(client, merge)
    assert (task.get("Type"), task.findtext("Status")) == ("Merge", "Success")
    assert xml(get(client, f"/instances/{merge}", source="")).findtext("Tasks/Merge/Name") == "m"
    document = json.loads(xml(get(client, "/tables/t", extended="")).findtext("Schema") or "")
    assert document["FileNum"] == 1


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/instances", "GET"),
        ("/instances", "POST"),
        ("/cachedinstances", "GET"),
        ("/tables", "GET"),
        ("/schemas", "GET"),
        ("/registration/functions", "GET"),
        ("/authorization", "POST"),
        ("/users", "GET"),
        ("", "GET"),
    ],
)
def test_an_unknown_project_is_said_to_be_none(client: Any, path: str, method: str) -> None:
    body = b"" if method == "GET" else job("SQL", "<Query>select 1</Query>")
    reply = client.request(method, f"/api/projects/nobody{path}", {}, body)
    assert (reply.status, reply.json["Code"]) == (404, "NoSuchProject")
