"""``fletching ls``: the tables of a project, and the partitions of one."""

from __future__ import annotations

from tests.cli.conftest import Shell


def test_tables_are_listed_with_their_figures(shell: Shell) -> None:
    shell("create", "t", "id BIGINT")
    shell("put", "filled", "in.parquet", "--create")
    listed = {each["table"]: each for each in shell.json("ls")}
    assert set(listed) == {"t", "filled"}
    assert (listed["filled"]["rows"], listed["t"]["rows"]) == (3, 0)
    assert "filled" in shell("ls")
    shell("drop", "t", "--yes")
    shell("drop", "filled", "--yes")
    assert shell.json("ls") == []
    assert shell("ls") == ""
    assert "no tables" in shell.errors


def test_partitions_are_listed_in_their_order(shell: Shell) -> None:
    shell("create", "t", "--like", "in.parquet", "--partition-by", "pt")
    assert shell("ls", "t") == ""
    assert "has no partitions" in shell.errors
    shell("put", "t", "in.parquet", "--partition", "pt=x")
    shell("put", "t", "in.parquet", "--partition", "pt=a b")
    assert [(p["partition"], p["rows"]) for p in shell.json("ls", "t")] == [
        ("pt=a b", 3),
        ("pt=x", 3),
    ]
    assert "pt=a b" in shell("ls", "t")
