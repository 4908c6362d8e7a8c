"""What statements print: descriptions that can be read, a CREATE that makes the same table, bounded text."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from tests.engine.query.conftest import Sql

from fletching.engine.query import printing
from fletching.engine.query.printing import bounded_text, failure_text, matches
from fletching.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("code", "name"), [("ParseError", "ODPS-0130161"), ("NoSuchTable", "NoSuchTable")]
)
def test_a_failure_is_xml_whatever_it_says(code: str, name: str) -> None:
    root = ET.fromstring(failure_text(code, "a < b & \"c\" > 'd' ü"))
    assert root.findtext("Code") == name
    assert root.findtext("Message") == "a < b & \"c\" > 'd' ü"


@pytest.mark.parametrize(
    ("name", "pattern", "listed"),
    [
        ("events", None, True), ("Events", "EVENTS", True), ("events", "ev*", True),
        ("events", "ev%", True), ("events", "vents", False), ("a", "b|a", True),
        ("a", "b | A ", True), ("a", "", False), ("events", "*v?nts", True),
    ],
)  # fmt: skip
def test_patterns(name: str, pattern: str | None, listed: bool) -> None:
    assert matches(name, pattern) is listed


def test_what_show_create_prints_makes_the_same_table(sql: Sql) -> None:
    sql("create table t (id bigint not null comment 'it\\'s', n decimal(10,2) default 1.5, "
        "s struct<a:int,b:array<string>>, primary key (id)) comment 'one \\\\ two' "
        "partitioned by (pt string comment 'the day') lifecycle 7")  # fmt: skip
    text = sql("show create table t")
    described = sql("desc t")
    assert "Lifecycle: 7 days" in described
    assert 'comment "it' in described
    assert "not null" in described
    sql("drop table t")
    sql(text)
    assert sql("show create table t") == text
    assert sql("desc t") == described


def test_more_is_said_when_asked(sql: Sql) -> None:
    sql("create table t (a int not null, primary key (a))")
    sql("insert into t values (1), (2)")
    plain, extended = sql("desc t"), sql("desc extended t")
    assert extended.startswith(plain)
    for words in ("Created: 2027-", "Version: 1", "Segments: 1", "Primary key: a"):
        assert words in extended
        assert words not in plain
    assert "Rows: 2" in plain


def test_a_view_is_told_by_its_query(sql: Sql) -> None:
    sql("create view v (`x`) comment 'seen' as select 1 + 1")
    assert "View: SELECT 1 + 1" in sql("desc v")
    text = sql("show create table v")
    assert text.startswith("CREATE VIEW IF NOT EXISTS")
    sql("drop view v")
    sql(text)
    assert sql.rows("select x from v") == [("2",)]


def test_a_partition_is_described(sql: Sql) -> None:
    sql("create table t (a int) partitioned by (pt string, hh bigint)")
    sql("insert into t partition (pt='x', hh=3) values (1)")
    text = sql("desc t partition (pt='x', hh=3)")
    assert text.splitlines()[:2] == ["Partition: pt=x/hh=3", "Rows: 1"]


def test_long_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printing, "MAX_RESULT_CHARACTERS", 5)
    assert bounded_text("12345") == "12345"
    with pytest.raises(InvalidArgumentError, match="6 characters, above the limit of 5"):
        bounded_text("123456")
