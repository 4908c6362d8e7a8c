"""A statement reads a table as it was: by version, tag and moment; what cannot be is refused where it stands."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest

import fletching
from fletching.client import Client
from fletching.errors import InvalidArgumentError, ServiceError, VersionNotFoundError


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A table of two rows whose column has another name since."""
    with fletching.connect(tmp_path_factory.mktemp("moments") / "data", create=True) as opened:
        table = opened.create_table("t", "id BIGINT")
        table.append({"id": [1]})
        table.append({"id": [2]})
        table.create_tag("first", 1)
        table.rename_column("id", "k")
        opened.sql("create view present as select * from t")
        opened.sql("create view past as select id from t version as of 1")
        yield opened


def rows_of(client: Client, statement: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in client.sql(statement).to_table().to_pylist()]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("select * from t", [(1,), (2,)]),
        ("select * from t version as of 0", []),
        ("select id from t version as of 1", [(1,)]),
        ("select id from t version as of '2' order by id", [(1,), (2,)]),
        ("select a.id from t version as of 'first' a where a.id = 1", [(1,)]),
        ("select t.id from t for version as of 1", [(1,)]),
        ("select count(*) from t for system_time as of '2090-01-01'", [(2,)]),
        ("select n.k from t n left anti join t version as of 1 o on n.k = o.id", [(2,)]),
        (
            "select (select count(*) from t version as of 1), (select count(*) from t)",
            [(1, 2)],
        ),
        ("with x as (select id from t version as of 1) select * from x", [(1,)]),
        ("select * from past", [(1,)]),
    ],
)
def test_versions_in_statements(client: Client, statement: str, expected: list[Any]) -> None:
    assert sorted(rows_of(client, statement)) == expected


def test_moments_in_statements(client: Client) -> None:
    table = client.table("t")
    for version in table.versions():
        moment = version.committed_at
        for text in (moment.isoformat(), moment.replace(tzinfo=None).isoformat(" ")):
            at = rows_of(client, f"select count(*) from t timestamp as of '{text}'")
            assert at == [(version.rows,)]
        if version.version:
            before = moment - dt.timedelta(microseconds=1)
            cast = f"cast('{before}' as timestamp)"
            (older,) = [v for v in table.versions() if v.version == version.version - 1]
            assert rows_of(client, f"select count(*) from t timestamp as of {cast}") == [
                (older.rows,)
            ]


@pytest.mark.parametrize(
    ("statement", "error", "words"),
    [
        ("select id from t", InvalidArgumentError, "no column id"),
        ("select k from t version as of 1", InvalidArgumentError, "no column k"),
        ("select * from t version as of 77", VersionNotFoundError, "column 15"),
        ("select * from t version as of 'none'", VersionNotFoundError, "no tag"),
        ("select * from t timestamp as of '2001-01-01'", VersionNotFoundError, "oldest version"),
        ("select * from t timestamp as of 'noon'", InvalidArgumentError, "no moment"),
        ("select * from t timestamp as of 12", InvalidArgumentError, "takes a text"),
        ("select * from t version as of 1.5", InvalidArgumentError, "number or a tag"),
        ("select * from t version as of (select 1)", InvalidArgumentError, "VERSION AS OF"),
        ("select * from nothing version as of 1", ServiceError, "nothing"),
        ("with x as (select 1) select * from x version as of 1", InvalidArgumentError, "no table"),
        ("delete from t version as of 1 where id = 1", InvalidArgumentError, "cannot be changed"),
        ("update t version as of 1 set id = 1", InvalidArgumentError, "cannot be changed"),
        ("insert into t version as of 1 select 5", InvalidArgumentError, "version"),
    ],
)
def test_what_cannot_be_is_refused(
    client: Client, statement: str, error: type[Exception], words: str
) -> None:
    before = client.table("t").versions(limit=1)
    with pytest.raises(error, match=words):
        client.sql(statement)
    assert client.table("t").versions(limit=1) == before


def test_changes_from_what_a_table_was(client: Client) -> None:
    client.sql("create table copy as select * from t version as of 2")
    client.sql("delete from copy where id = 1")
    client.sql("insert into copy select id + 10 from copy version as of 1")
    statement = """
        merge into copy using copy version as of 1 old on copy.id = old.id + 10
        when matched then update set id = old.id + 100
    """
    client.sql(statement)
    assert sorted(rows_of(client, "select id from copy")) == [(2,), (101,), (102,)]
    client.table("copy").expire_versions(dt.timedelta())
    with pytest.raises(VersionNotFoundError):
        client.sql("select * from copy version as of 1")
