"""``fletching get``: rows become files of a format, whole or in part."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.cli.conftest import Shell

from fletching.cli.output import ExitCode


def test_parts_come_out(shell: Shell) -> None:
    shell("put", "events", "in.parquet", "--create")
    shell("get", "events", "out.csv", "--columns", "name,id", "--limit", "2")
    assert Path("out.csv").read_text() == '"name","id"\n"a",1\n,2\n'
    shell("get", "events", "out.arrow", "--filter", "id > 1")
    with pa.memory_map("out.arrow") as file:
        assert pa.ipc.open_file(file).read_all()["id"].to_pylist() == [2, 3]


def test_get_replaces_a_file_only_when_told(shell: Shell) -> None:
    shell("put", "events", "in.parquet", "--create")
    Path("out.csv").write_text("mine")
    shell("get", "events", "out.csv", exits=ExitCode.USAGE)
    assert "--replace" in shell.errors
    # What cannot be read is told first: nothing would come of replacing the file.
    for code, (table, *options) in {
        ExitCode.FAILED: ["nothere"],
        ExitCode.USAGE: ["events", "--columns", "nothere"],
    }.items():
        shell("get", table, "out.csv", *options, exits=code)
        assert "nothere" in shell.errors
        assert "--replace" not in shell.errors
    assert Path("out.csv").read_text() == "mine"
    shell("get", "events", "out.csv", "--replace")
    assert Path("out.csv").read_text().startswith('"id"')


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv.zst", "jsonl", "jsonl.gz", "arrows.zst"])
def test_text_formats_come_back_as_they_went_out(shell: Shell, suffix: str) -> None:
    table = pa.table(
        {"id": [1, 2, 3], "zip": ["007", "", None], "x": [0.5, None, 1.5], "b": [b"a", b"b", b"c"]}
    )
    pq.write_table(table, "t.parquet")
    shell("put", "t", "t.parquet", "--create")
    shell("get", "t", f"out.{suffix}")
    shell("create", "again", "id BIGINT, zip STRING, x DOUBLE, b BINARY")
    shell("put", "again", f"out.{suffix}")
    shell("get", "again", "again.parquet")
    assert pq.read_table("again.parquet").to_pylist() == table.to_pylist()
