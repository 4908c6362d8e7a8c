"""The table commands, run in this process on a folder; ``main`` alone turns errors into exit codes."""

from __future__ import annotations

import io
import json
import os
import socket
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fletching
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
        self.place: tuple[str, ...] = ("--at", str(folder / "data"))

    def __call__(self, *words: str, exits: int = 0) -> str:
        for name in [name for name in os.environ if name.startswith("FLETCHING_")]:
            self._monkeypatch.delenv(name)
        words = (*words, *self.place)
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


def test_create_makes_the_project_of_a_service_too(shell: Shell) -> None:
    with fletching.serve(shell.folder / "served", port=0) as server:
        where = ("--at", server.url, "--access-key", ":".join(server.access_key))
        shell.place = where
        shell("put", "events", "in.parquet", "--project", "fresh", exits=ExitCode.FAILED)
        assert "--create" in shell.errors
        assert (
            shell.json("put", "events", "in.parquet", "--project", "fresh", "--create")["rows"] == 3
        )
        assert shell.json("ls", "--project", "fresh")[0]["rows"] == 3


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
    for text in ("array<string>", "not null", "partition"):
        assert text in shown
    assert "version 0" in shell.errors
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
    assert "dropped table like" in shell.errors
    assert [entry["table"] for entry in shell.json("ls")] == ["t"]
    shell("drop", "like", "--yes", "--if-exists")
    assert "nothing to drop" in shell.errors
    assert "dropped" not in shell.errors
    shell("drop", "t", exits=ExitCode.USAGE)
    assert "--yes" in shell.errors
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


def test_a_misspelt_table_is_answered_with_those_like_it(shell: Shell) -> None:
    shell("put", "events", "in.parquet", "--create")
    for command in (["head"], ["show"], ["drop", "--yes"], ["blob", "ls"]):
        shell(*command, "evnets", exits=ExitCode.FAILED)
        assert "did you mean events?" in shell.errors
    shell("get", "evnets", "x.csv", exits=ExitCode.FAILED)
    assert "did you mean events?" in shell.errors


def test_get_replaces_a_file_only_when_told(shell: Shell) -> None:
    shell("put", "events", "in.parquet", "--create")
    Path("out.csv").write_text("mine")
    shell("get", "events", "out.csv", exits=ExitCode.USAGE)
    assert "--replace" in shell.errors
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


def test_columns_that_a_file_lacks_are_told(shell: Shell) -> None:
    shell("create", "t", "id BIGINT, name STRING, at TIMESTAMP")
    Path("whole.csv").write_text("at,NAME,id\n2026-01-01 00:00:00,a,1\n")
    Path("narrow.csv").write_text("id\n2\n")
    shell("put", "t", "whole.csv")
    assert "note" not in shell.errors
    shell("put", "t", "whole.csv", "narrow.csv", "narrow.csv")
    assert shell.errors.count("narrow.csv has no column name: its rows are null there") == 1
    assert shell.errors.count("narrow.csv has no column at") == 1
    assert shell.json("put", "t", "narrow.csv")["filled_with_null"] == ["name", "at"]
    shell("create", "strict", "id BIGINT, name STRING NOT NULL")
    shell("put", "strict", "narrow.csv", exits=2)
    assert "name" in shell.errors
    assert shell.json("ls")[0]["rows"] == 0


def test_folders_and_hive_keys(shell: Shell) -> None:
    for year, month in (("2024", "01"), ("2024", "02"), ("2025", "01")):
        folder = Path("hive", f"year={year}", f"month={month}")
        folder.mkdir(parents=True)
        pq.write_table(TABLE, folder / "part.parquet")
    Path("hive/_SUCCESS").touch()
    assert shell.json("put", "h", "hive", "--create")["rows"] == 9
    assert [entry["partition"] for entry in shell.json("ls", "h")] == [
        "year=2024,month=01",
        "year=2024,month=02",
        "year=2025,month=01",
    ]
    shell("get", "h", "out.parquet", "--filter", "month = '02'")
    assert set(pq.read_table("out.parquet")["year"].to_pylist()) == {"2024"}
    # into a table that has them as columns of its own
    shell("create", "flat", "id BIGINT, name STRING, at TIMESTAMP_NTZ, year BIGINT, month STRING")
    shell("put", "flat", "hive/year=2024")
    assert shell.json("ls")[0]["rows"] == 6


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["ls"], "no data folder"),
        (["head", "t"], "no data folder"),
        (["put", "t", "in.parquet"], "no data folder"),
        (["get", "t", "x.csv"], "no data folder"),
        (["drop", "t", "-y"], "no data folder"),
        (["show", "t"], "no data folder"),
        (["blob", "ls", "t"], "no data folder"),
        (["verify"], "no data folder"),
        (["gc"], "no data folder"),
        (["compact"], "no data folder"),
        (["keys", "list"], "no data folder"),
        (["keys", "create"], "no data folder"),
    ],
)
def test_nothing_but_create_and_put_create_makes_a_folder(
    shell: Shell, command: list[str], message: str
) -> None:
    shell(*command, exits=ExitCode.USAGE)
    assert message in shell.errors
    assert not (shell.folder / "data").exists()
    (shell.folder / "data").mkdir()
    (shell.folder / "data" / "mine.txt").touch()
    shell(*command, exits=ExitCode.USAGE)
    assert [path.name for path in (shell.folder / "data").iterdir()] == ["mine.txt"]


def test_bench_measures_and_leaves_nothing(shell: Shell) -> None:
    steps = shell.json("bench", "--megabytes", "3", "--rounds", "1")
    assert {step["rows"] for step in steps} == {65536}
    assert all(step["seconds"] > 0 for step in steps)
    assert shell.json("ls") == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["head", "nosuch"], ExitCode.FAILED, "there is no table"),
        (["put", "events", "nofile.parquet"], ExitCode.USAGE, "there is no file"),
        (["put", "nosuch", "in.parquet"], ExitCode.FAILED, "there is no"),
        (["create", "t"], ExitCode.USAGE, "either the columns"),
        (["create", "t", "id NOTATYPE"], ExitCode.USAGE, "NOTATYPE"),
        (["get", "nosuch", "x.parquet", "--limit", "-1"], ExitCode.USAGE, "--limit"),
        (["nonsense"], ExitCode.USAGE, "nonsense"),
        (["hed", "there"], ExitCode.USAGE, "did you mean head?"),
        (["put", "there", "in.parquet", "--delimiter", "::"], ExitCode.USAGE, "one character"),
        (["put", "there", "in.parquet", "--encoding", "klingon"], ExitCode.USAGE, "klingon"),
        (["get", "there", "no/x.csv"], ExitCode.USAGE, "there is no folder no"),
        (["get", "there", "."], ExitCode.USAGE, "cannot tell the format"),
        (["head", "there", "--access-key", "a:b"], ExitCode.USAGE, "is a folder"),
    ],
)
def test_mistakes_get_a_sentence_and_a_code(
    shell: Shell, words: list[str], code: int, said: str
) -> None:
    shell("create", "there", "id BIGINT")
    shell(*words, exits=code)
    assert said in shell.errors


def test_a_url_needs_a_key(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.delenv("FLETCHING_ACCESS_KEY", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        for key, said in [([], "needs an access key"), (["--access-key", "x"], "ID:SECRET")]:
            monkeypatch.setattr("sys.argv", ["fletching", "ls", "--at", url, *key])
            with pytest.raises(SystemExit) as ended:
                main()
            assert ended.value.code == ExitCode.USAGE
            assert said in capsys.readouterr().err
