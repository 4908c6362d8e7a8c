from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import run_at as run

import fletching
from fletching.errors import NoSuchTableError, ServiceError, UsageError


@pytest.fixture
def at(tmp_path: Path) -> Path:
    with fletching.connect(tmp_path / "data", create=True) as client:
        table = client.create_table("t", "id BIGINT, text STRING")
        table.append({"id": [1, 2], "text": ["a", "b"]})
        table.append({"id": [3], "text": ["c"]})
    return tmp_path / "data"


def ids(at: Path, *words: object) -> list[int]:
    lines = run(at, "head", "t", "--json", *words).stdout.splitlines()
    return [json.loads(line)["id"] for line in lines]


def test_a_table_as_it_was(at: Path, tmp_path: Path) -> None:
    listed = json.loads(run(at, "versions", "t", "--json").stdout)
    assert [(each["version"], each["operation"]) for each in listed][:2] == [
        (2, "append"),
        (1, "append"),
    ]
    assert run(at, "history", "t").stdout.splitlines()[1].split("\t")[0] == "2"
    assert ids(at, "--as-of", "1") == [1, 2]
    assert ids(at, "--as-of", listed[1]["committed_at"]) == [1, 2]
    assert run(at, "count", "t", "--as-of", "1").stdout == "2\n"
    run(at, "get", "t", tmp_path / "old.jsonl", "--as-of", "1")
    assert len((tmp_path / "old.jsonl").read_text().splitlines()) == 2
    with pytest.raises(ServiceError):
        run(at, "head", "t", "--as-of", "99")
    with pytest.raises(ServiceError):
        run(at, "head", "t", "--as-of", "nosuchtag")


def test_rows_are_deleted_and_come_back(at: Path) -> None:
    with pytest.raises(UsageError, match="--yes"):
        run(at, "delete", "t", "id = 2")
    assert "1 row deleted" in run(at, "delete", "t", "id = 2", "--yes").stderr
    assert ids(at) == [1, 3]
    rows = [
        json.loads(line)
        for line in run(at, "changes", "t", "--since", "1", "--json").stdout.splitlines()
    ]
    assert sorted((row["_change_type"], row["id"]) for row in rows) == [
        ("delete", 2),
        ("insert", 3),
    ]
    # Whoever looks at rows sees first which came and which went; a program gets them in the feed's order.
    looked_at = run(at, "changes", "t", "--since", "1", "--vertical").stdout
    assert looked_at.index("_change_type") < looked_at.index("_commit_version")
    assert looked_at.index("_commit_version") < looked_at.index("text")
    assert next(iter(rows[0])) == "id"
    with pytest.raises(UsageError, match="--yes"):
        run(at, "restore", "t", "2")
    # Nobody is asked about what there is not.
    for mistake in ("99", "nosuchtag", "2001-01-01"):
        with pytest.raises(ServiceError):
            run(at, "restore", "t", mistake)
    run(at, "restore", "t", "2", "--yes")
    assert ids(at) == [1, 2, 3]


def test_a_table_gets_another_name(at: Path) -> None:
    assert run(at, "rename", "t", "u").stderr == "t is now u\n"
    assert run(at, "count", "u").stdout == "3\n"
    with pytest.raises(NoSuchTableError):
        run(at, "count", "t")


def test_sql(at: Path, tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    shown = run(at, "sql", "select id, text from t where id > 1 order by id").stdout
    assert shown == "id\ttext\n2\tb\n3\tc\n"
    lines = run(at, "sql", "select id from t where text = :text", "-p", "text=a", "--json").stdout
    assert [json.loads(line) for line in lines.splitlines()] == [{"id": 1}]
    run(at, "sql", "select id from t", "--output", tmp_path / "out.csv")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 4
    assert "1 row changed" in run(at, "sql", "insert into t values (9, 'z')").stderr
    assert ids(at, "-n", 10) == [1, 2, 3, 9]
    (tmp_path / "two.sql").write_text("drop table if exists u; create table u (id bigint);")
    run(at, "sql", "--file", tmp_path / "two.sql")
    assert "u" in run(at, "ls").stdout
    for wrong in (["sql"], ["sql", "select 1", "--file", "x"], ["sql", "select 1", "-p", "x"]):
        with pytest.raises(UsageError):
            run(at, *wrong)
