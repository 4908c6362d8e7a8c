from __future__ import annotations

import dataclasses
from xml.etree import ElementTree as ET

import pytest
from tests.instance_rows import ENDED

from fletching.engine.query.instances import COST, MERGE, SESSION
from fletching.errors import InvalidParameterError, MethodNotAllowedError
from fletching.server.metadata.jobs import job_document, parse_job, priority_of

JOB = """<?xml version="1.0" encoding="utf-8"?>
<Instance><Job><Priority>5</Priority><Guid>g</Guid><Tasks><SQL><Name>SQLCreateTableTask</Name><Config>
<Property><Name>settings</Name><Value>{"a": true, "b": "x"}</Value></Property>
<Property><Name>uuid</Name><Value>u</Value></Property>
</Config><Query><![CDATA[create table t (a array<bigint>);]]></Query></SQL></Tasks></Job></Instance>"""

ROW = dataclasses.replace(
    ENDED, task_name="SQLCreateTableTask", statement="select 1 < 2", created_at=1.0, ended_at=2.0
)


def merge(table: str, config: str = "") -> bytes:
    task = f"<Merge><Name>m</Name><Config>{config}</Config><TableName>{table}</TableName></Merge>"
    return f"<Instance><Job><Tasks>{task}</Tasks></Job></Instance>".encode()


def test_a_job_is_read_and_given_back_as_it_came() -> None:
    job = parse_job(JOB.encode())
    assert job.task_name == "SQLCreateTableTask"
    assert job.statement == "create table t (a array<bigint>);"
    assert job.settings == {"a": "True", "b": "x"}
    assert "create table" not in job.source  # kept once, as the statement
    row = dataclasses.replace(ROW, statement=job.statement, source=job.source)
    root = job_document(row)
    assert ET.canonicalize(ET.tostring(root)) == ET.canonicalize(
        ET.tostring(ET.fromstring(JOB.split("\n", 1)[1])[0])
    )
    assert priority_of(row) == 5


def test_a_job_of_another_protocol_has_a_source_too() -> None:
    root = job_document(ROW)
    assert root.findtext("Tasks/SQL/Query") == "select 1 < 2"
    assert priority_of(ROW) == 9
    odd = "<Job><Priority>many</Priority></Job>"
    assert priority_of(dataclasses.replace(ROW, source=odd)) == 9


def test_kinds_of_jobs() -> None:
    assert parse_job(JOB.replace("SQL>", "SQLCost>").encode()).kind == COST
    session = parse_job(JOB.replace("SQL>", "SQLRT>").encode())
    assert (session.kind, session.settings["b"]) == (SESSION, "x")
    nameless = JOB.replace("<Name>SQLCreateTableTask</Name>", "")
    assert parse_job(nameless.encode()).task_name == "AnonymousSQLTask"


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("t", "ALTER TABLE `t`  MERGE SMALLFILES"),
        ("p.s.t", "ALTER TABLE `p`.`s`.`t`  MERGE SMALLFILES"),
        ("p.`t`", "ALTER TABLE `p`.`t`  MERGE SMALLFILES"),
        (
            "t partition(pt='1',q=2)",
            "ALTER TABLE `t` partition(pt='1',q=2) MERGE SMALLFILES",
        ),
    ],
)
def test_merging_files_is_a_statement(table: str, statement: str) -> None:
    job = parse_job(merge(table))
    assert (job.kind, job.statement) == (MERGE, statement)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("<Instance/>", "this has 0"),
        (JOB.replace('{"a": true, "b": "x"}', "nonsense"), "not JSON"),
        (JOB.replace('{"a": true, "b": "x"}', "[]"), "not an object"),
        (merge("").decode(), "not a name"),
        (merge("a b c").decode(), "not a name"),
    ],
)
def test_unreadable_jobs_are_refused(body: str, complaint: str) -> None:
    with pytest.raises(InvalidParameterError, match=complaint):
        parse_job(body.encode())


SETTING = "<Property><Name>settings</Name><Value>{}</Value></Property>"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (JOB.replace("SQL>", "CUPID>"), "CUPID"),
        ("<Instance><XflowInstance/></Instance>", "XflowInstance"),
        (
            merge("t", SETTING.format('{"odps.merge.cold.storage.mode": "backup"}')).decode(),
            "frozen",
        ),
        (
            merge("t", "<Property><Name>archiveSettings</Name><Value/></Property>").decode(),
            "archived",
        ),
    ],
)
def test_what_nothing_runs_is_not_allowed(body: str, complaint: str) -> None:
    with pytest.raises(MethodNotAllowedError, match=complaint):
        parse_job(body.encode())
