from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import fletching
from fletching.cli.main import app


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sql") / "data"
    with fletching.connect(folder, create=True) as client:
        client.sql("create table t (a bigint, b string); insert into t values (1, 'x'), (2, null)")
    return folder


def run(at: Path, *words: object, text: str | None = None, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["sql", *map(str, words), "--at", str(at)], input=text)
    assert result.exit_code == code, result.output
    return result


def test_rows_in_a_pipe(at: Path, tmp_path: Path) -> None:
    assert run(at, "select * from t order by a").stdout == "a\tb\n1\tx\n2\t\\N\n"
    assert run(at, "-", text="select 5 as x;").stdout == "x\n5\n"
    script = tmp_path / "script.sql"
    script.write_text("@big := select * from t where a > 1;\nselect a\nfrom @big;")
    for option in ("--file", "-f"):
        assert run(at, option, script).stdout == "a\n2\n"
    assert run(at, "select a from t where b = :b", "-p", "b=x").stdout == "a\n1\n"
    lines = run(at, "--json", "select * from t order by a").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    assert "item" not in run(at, "desc t").stdout
    assert "b string" in run(at, "desc t").stdout
    assert run(at, "--format", "csv", "select * from t order by a").stdout == '"a","b"\n1,"x"\n2,\n'


def test_rows_in_files(at: Path, tmp_path: Path) -> None:
    expected = {"a": [1, 2], "b": ["x", None]}
    for name in ("r.csv", "r.jsonl", "r.arrow", "r.arrows", "r.parquet"):
        message = run(at, "select * from t order by a", "-o", tmp_path / name).stderr
        assert "2 rows" in message
    with pa.OSFile(str(tmp_path / "r.arrow")) as file:
        assert pa.ipc.open_file(file).read_all().to_pydict() == expected
    with pa.OSFile(str(tmp_path / "r.arrows")) as file:
        assert pa.ipc.open_stream(file).read_all().to_pydict() == expected
    assert pq.read_table(tmp_path / "r.parquet").to_pydict() == expected
    assert (tmp_path / "r.csv").read_text() == '"a","b"\n1,"x"\n2,\n'
    run(at, "select 1", "-o", tmp_path / "r.csv", code=1, text="n\n")  # it is there already
    run(at, "select 1 as one", "-o", tmp_path / "r.csv", "--replace")
    assert (tmp_path / "r.csv").read_text() == '"one"\n1\n'


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["selec 1"], "did you mean SELECT?, at line 1, column 1"),
        (["select nope from t"], "no column nope"),
        (["select 1", "-f", "x.sql"], "a statement, or --file"),
        (["-f", "/nowhere/x.sql"], "cannot read"),
        (["select 1", "-p", "novalue"], "NAME=VALUE"),
    ],
)
def test_what_is_refused(at: Path, words: list[str], complaint: str) -> None:
    result = CliRunner().invoke(app, ["sql", *words, "--at", str(at)])
    assert result.exit_code != 0
    assert complaint in (result.stderr + str(result.exception))


def test_a_terminal_of_80_columns_gets_a_table(at: Path) -> None:
    parent, child = pty.openpty()
    text = "select a, repeat('x', 200) as wide, b, repeat('y', 90) as wider from t order by a"
    process = subprocess.Popen(
        [sys.executable, "-m", "fletching", "sql", text, "--at", str(at)],
        stdout=child,
        stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "80", "TERM": "dumb"},
    )
    os.close(child)
    shown = b""
    while not shown.count(b"\n") >= 4:
        shown += os.read(parent, 65_536)
    assert process.wait() == 0
    os.close(parent)
    assert process.stderr is not None
    process.stderr.close()
    lines = shown.decode().splitlines()
    assert lines[0].split() == ["a", "wide", "b", "wider"]
    assert max(map(len, lines)) <= 80
    assert "null" in lines[3]
