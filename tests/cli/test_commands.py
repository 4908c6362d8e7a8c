"""The table commands, run in this process on a folder; ``main`` alone turns errors into exit codes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fletching.cli.main import main
from fletching.cli.output import ExitCode

TABLE = pa.table(
    {
        "id": [1, 2, 3],
        "name": ["a", None, "long " * 30],
        "at": pa.array([0, 1, None], pa.timestamp("us")),
    }
)


class Shell:
    """Runs commands on one folder and keeps what they print."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self.folder, self._monkeypatch, self._capsys = folder, monkeypatch, capsys

    def __call__(self, *words: str, exits: int = 0) -> str:
        words = (*words, "--at", str(self.folder / "data"))
        self._monkeypatch.setattr("sys.argv", ["fletching", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = self._capsys.readouterr()
        self.errors = printed.err
        assert (ended.value.code or 0) == exits, printed.err
        assert "Traceback" not in printed.err
        return str(printed.out)

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    monkeypatch.chdir(tmp_path)
    pq.write_table(TABLE, "in.parquet")
    return Shell(tmp_path, monkeypatch, capsys)


def test_a_file_goes_in_and_comes_out(shell: Shell) -> None:
    shell("put", "events", "in.parquet", "in.parquet", "--create")
    assert "6 rows" in shell.errors
    shell("get", "events", "out.parquet")
    assert pq.read_table("out.parquet").to_pylist() == TABLE.to_pylist() * 2
    shell("put", "events", "in.parquet", "--overwrite")
    assert shell.json("ls")[0]["rows"] == 3


def test_parts_come_out(shell: Shell) -> None:
    shell("put", "events", "in.parquet", "--create")
    shell("get", "events", "out.csv", "--columns", "name,id", "--limit", "2")
    assert Path("out.csv").read_text() == '"name","id"\n"a",1\n,2\n'
    shell("get", "events", "out.arrow", "--filter", "id > 1")
    with pa.memory_map("out.arrow") as file:
        assert pa.ipc.open_file(file).read_all()["id"].to_pylist() == [2, 3]


def test_pipes(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, TABLE.schema) as writer:
        writer.write_table(TABLE)

    class Pipe:
        buffer = io.BytesIO(stream.getvalue())

    monkeypatch.setattr("sys.stdin", Pipe)
    assert shell.json("put", "piped", "-", "--create")["rows"] == 3


def test_tables_are_made_shown_listed_and_dropped(shell: Shell) -> None:
    shell("create", "t", "id BIGINT NOT NULL, tags ARRAY<STRING>", "--partition-by", "pt,region")
    shell("create", "t", "id BIGINT", "--if-not-exists")
    shell("create", "like", "--like", "in.parquet")
    shown = shell("show", "t")
    for text in ("array<string>", "not null", "partition", "version 0"):
        assert text in shown
    assert "timestamp[us]" in shell("show", "like")
    columns = shell.json("show", "t")["columns"]
    assert [(c["name"], c["partition"]) for c in columns] == [
        ("id", False),
        ("tags", False),
        ("pt", True),
        ("region", True),
    ]
    assert {entry["table"] for entry in shell.json("ls")} == {"t", "like"}
    shell("drop", "like", "--yes")
    assert [entry["table"] for entry in shell.json("ls")] == ["t"]
    shell("drop", "like", "--yes", "--if-exists")
    shell("drop", "like", "--yes", exits=ExitCode.FAILED)
    assert "NoSuchTable" in shell.errors


def test_partitions(shell: Shell) -> None:
    shell("create", "t", "--like", "in.parquet", "--partition-by", "pt")
    shell("put", "t", "in.parquet", "--partition", "pt=x")
    shell("put", "t", "in.parquet", "--partition", "pt=a b")
    assert [p["partition"] for p in shell.json("ls", "t")] == ["pt=a b", "pt=x"]
    shell("get", "t", "out.parquet", "--partition", "pt=x")
    assert pq.read_table("out.parquet").num_rows == 3
    shell("drop", "t", "--partition", "pt=x", "--yes")
    assert [p["partition"] for p in shell.json("ls", "t")] == ["pt=a b"]
    assert "pt=a b" in shell("ls", "t")


def test_head_fits_a_screen(shell: Shell) -> None:
    shell("put", "events", "in.parquet", "--create")
    printed = shell("head", "events", "-n", "3")
    assert "…" in printed
    assert max(map(len, printed.splitlines())) <= 100
    assert len(shell.json("head", "events", "-n", "2")) == 2
    shell("create", "empty", "id BIGINT")
    assert "no rows" in shell("head", "empty")


def test_bench_measures_and_leaves_nothing(shell: Shell) -> None:
    steps = shell.json("bench", "--megabytes", "3", "--rounds", "1")
    assert {step["rows"] for step in steps} == {65536}
    assert all(step["seconds"] > 0 for step in steps)
    assert shell.json("ls") == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["head", "nosuch"], ExitCode.FAILED, "there is no"),
        (["put", "events", "nofile.parquet"], ExitCode.USAGE, "there is no file"),
        (["put", "nosuch", "in.parquet"], ExitCode.FAILED, "there is no"),
        (["create", "t"], ExitCode.USAGE, "either the columns"),
        (["create", "t", "id NOTATYPE"], ExitCode.USAGE, "NOTATYPE"),
        (["get", "nosuch", "x.parquet", "--limit", "-1"], ExitCode.USAGE, "--limit"),
        (["nonsense"], ExitCode.USAGE, "nonsense"),
    ],
)
def test_mistakes_get_a_sentence_and_a_code(
    shell: Shell, words: list[str], code: int, said: str
) -> None:
    shell(*words, exits=code)
    assert said in shell.errors


def test_a_url_needs_a_key(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.delenv("FLETCHING_ACCESS_KEY", raising=False)
    for key, said in [([], "needs an access key"), (["--access-key", "x"], "ID:SECRET")]:
        monkeypatch.setattr("sys.argv", ["fletching", "ls", "--at", "http://127.0.0.1:9", *key])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == ExitCode.USAGE
        assert said in capsys.readouterr().err
