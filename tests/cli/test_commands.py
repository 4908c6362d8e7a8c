"""What all table commands have in common: mistakes, places, and leaving nothing behind."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from tests.cli.conftest import Shell

from fletching.cli.main import main
from fletching.cli.output import ExitCode


def test_a_misspelt_table_is_answered_with_those_like_it(shell: Shell) -> None:
    shell("put", "events", "in.parquet", "--create")
    for command in (["head"], ["show"], ["drop", "--yes"], ["blob", "ls"]):
        shell(*command, "evnets", exits=ExitCode.FAILED)
        assert "did you mean events?" in shell.errors
    shell("get", "evnets", "x.csv", exits=ExitCode.FAILED)
    assert "did you mean events?" in shell.errors


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
    ("words", "code", "message"),
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
    shell: Shell, words: list[str], code: int, message: str
) -> None:
    shell("create", "there", "id BIGINT")
    shell(*words, exits=code)
    assert message in shell.errors


def test_a_url_needs_a_key(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.delenv("FLETCHING_ACCESS_KEY", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        for key, message in [([], "needs an access key"), (["--access-key", "x"], "ID:SECRET")]:
            monkeypatch.setattr("sys.argv", ["fletching", "ls", "--at", url, *key])
            with pytest.raises(SystemExit) as ended:
                main()
            assert ended.value.code == ExitCode.USAGE
            assert message in capsys.readouterr().err
