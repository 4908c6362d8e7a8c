"""Complaints about names: their places, and the names that may have been meant."""

from __future__ import annotations

from typing import Any

import pytest

import fletching
from fletching.engine.query.complaint_locations import located_complaint, with_near_tables
from fletching.errors import (
    FletchingError,
    InvalidArgumentError,
    NoPermissionError,
    NoSuchTableError,
)
from fletching.protocol.messages.admin import ListTables, TablePage
from fletching.sql.parsing.dialect import parse_one
from fletching.types import TableName


@pytest.fixture
def shop(client: fletching.Client) -> fletching.Client:
    client.sql("create table sales (id bigint, amount double); create table stores (id bigint)")
    client.sql("create view late as select * from sales")
    return client


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("select * from salse", r"no table demo\.default\.salse; did you mean sales\?, at line 1, column 15"),
        ("select 1;\nselect * from sale", r"did you mean sales\?, at line 2, column 15"),
        ("insert into storse values (1)", r"did you mean stores\?, at line 1, column 13"),
        ("drop table slaes", r"did you mean sales\?"),
        ("drop view lates", r"did you mean late\?"),
        ("alter table Salse add columns (x bigint)", r"did you mean sales\?"),
        ("desc demo.salse", r"did you mean sales\?"),
        ("update salse set id = 1", r"did you mean sales\?"),
        ("select * from late as of 1", "line 1"),
        ("select * from customers", r"there is no table demo\.default\.customers, at line 1, column 15"),
        ("select amout from sales", r"no column amout; did you mean amount\?, at line 1, column 8"),
        ("select s.id from sales x", r"there is no table or alias s here"),
        ("select salez.id from sales", r"did you mean sales\?"),
    ],
)  # fmt: skip
def test_near_names(shop: fletching.Client, text: str, message: str) -> None:
    with pytest.raises(FletchingError, match=message):
        shop.sql(text)


class _Run:
    """Stands for a run of statements whose caller may know of some tables."""

    def __init__(self, *names: str, refuses: bool = False) -> None:
        self.names = names
        self.refuses = refuses
        self.asked: list[Any] = []
        self.verbs = self

    def authorize(self, request: Any) -> None:
        self.asked.append(request)
        if self.refuses:
            raise NoPermissionError("no")

    def call(self, request: Any) -> Any:
        return TablePage(tables=())

    def visible(self, _response: Any) -> Any:
        class Info:
            def __init__(self, name: str) -> None:
                self.table = TableName("p", name)

        return TablePage(tables=tuple(map(Info, self.names)))  # type: ignore[arg-type]


def test_only_names_that_the_caller_may_see_are_told() -> None:
    error = NoSuchTableError("there is no table p.s.salse, at line 1, column 2")
    run = _Run("sales")
    complaint = with_near_tables(error, run)
    assert (
        complaint.message == "there is no table p.s.salse; did you mean sales?, at line 1, column 2"
    )
    assert run.asked == [ListTables(project="p", schema="s", max_items=10_000)]
    assert with_near_tables(complaint, run) is complaint
    assert with_near_tables(error, _Run("sales", refuses=True)) is error
    assert with_near_tables(error, _Run()).message == error.message
    strange = NoSuchTableError("nothing is known")
    assert with_near_tables(strange, run) is strange


def test_a_complaint_without_a_name_stays_as_it_is() -> None:
    tree = parse_one("select a from t")
    error = InvalidArgumentError("it cannot be computed")
    assert located_complaint(error, tree, ()) is error
    named = InvalidArgumentError("the column b is ambiguous")
    assert located_complaint(named, tree, ()) is named
    complaint = located_complaint(InvalidArgumentError("the column a is ambiguous"), tree, ())
    assert "line 1, column 8" in complaint.message
