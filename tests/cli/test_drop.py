"""``fletching drop``: a table or a partition goes, if somebody says so."""

from __future__ import annotations

import pyarrow.parquet as pq
from tests.cli.conftest import Shell

from fletching.cli.output import ExitCode


def test_nothing_goes_unless_it_is_told_to(shell: Shell) -> None:
    shell("create", "t", "id BIGINT")
    shell("drop", "t", exits=ExitCode.USAGE)
    assert "--yes" in shell.errors
    assert [entry["table"] for entry in shell.json("ls")] == ["t"]
    shell("drop", "t", "--yes")
    assert "dropped table t" in shell.errors
    assert shell.json("ls") == []


def test_what_is_not_there_is_an_error_unless_it_may_be(shell: Shell) -> None:
    shell("create", "t", "id BIGINT")
    shell("drop", "like", "--yes", exits=ExitCode.FAILED)
    assert "NoSuchTable" in shell.errors
    shell("drop", "like", "--yes", "--if-exists")
    assert "nothing to drop" in shell.errors
    assert "dropped" not in shell.errors


def test_one_partition_goes_and_the_others_stay(shell: Shell) -> None:
    shell("create", "t", "--like", "in.parquet", "--partition-by", "pt")
    shell("put", "t", "in.parquet", "--partition", "pt=x")
    shell("put", "t", "in.parquet", "--partition", "pt=y")
    shell("get", "t", "out.parquet", "--partition", "pt=x")
    assert pq.read_table("out.parquet").num_rows == 3
    shell("drop", "t", "--partition", "pt=x", "--yes")
    assert [p["partition"] for p in shell.json("ls", "t")] == ["pt=y"]
    shell("drop", "t", "--partition", "pt=x", "--yes", exits=ExitCode.FAILED)
    assert "NoSuchPartition" in shell.errors
