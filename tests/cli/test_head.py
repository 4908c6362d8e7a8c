"""``fletching head``: the first rows, for people and for programs."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
from tests.cli.conftest import Shell


def test_head_is_for_programs_where_no_terminal_is(shell: Shell) -> None:
    shell("put", "events", "in.parquet", "--create")
    lines = shell("head", "events", "-n", "3").splitlines()
    assert lines[0] == "id\tname\tat"
    assert lines[2] == "2\t\\N\t1970-01-01T00:00:00.000001"
    rows = [json.loads(line) for line in shell("head", "events", "-n", "2", "--json").splitlines()]
    assert rows[1] == {"id": 2, "name": None, "at": "1970-01-01T00:00:00.000001"}
    shell("create", "empty", "id BIGINT")
    assert shell("head", "empty") == "id\n"
    assert shell("head", "empty", "--json") == ""
    assert "no rows" in shell("head", "empty", "--vertical") + shell.errors


def test_json_lines_are_json_whatever_the_values(shell: Shell) -> None:
    odd = pa.table(
        {
            "x": [float("nan"), float("inf"), float("-inf"), 1.5, None],
            "b": [b"", b"\xff", None, b"a", b"b"],
        }
    )
    pq.write_table(odd, "odd.parquet")
    shell("put", "odd", "odd.parquet", "--create")

    def refused(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    rows = [
        json.loads(line, parse_constant=refused)
        for line in shell("head", "odd", "--json").splitlines()
    ]
    assert [row["x"] for row in rows] == ["NaN", "Infinity", "-Infinity", 1.5, None]
    assert [row["b"] for row in rows] == ["", "/w==", None, "YQ==", "Yg=="]
