from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fletching
from fletching.cli.main import main
from fletching.cli.output import ExitCode


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("login") / "data"
    with fletching.serve(folder, port=0, access_keys={"me": "sesame"}) as running:
        with fletching.connect(running.url, access_id="me", access_key="sesame") as client:
            client.create_table("t", "id BIGINT").append({"id": [1]})
        yield running


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    monkeypatch.chdir(tmp_path)
    for name in ("AT", "PROJECT", "PROFILE", "ACCESS_KEY", "ACCESS_KEY_FILE"):
        monkeypatch.delenv(f"FLETCHING_{name}", raising=False)
    monkeypatch.setenv("FLETCHING_CONFIG_DIR", str(tmp_path / "config"))
    Path("key").write_text("me:sesame\n")

    def run(*words: str, exits: int = 0, stdin: str = "") -> Any:
        monkeypatch.setattr("sys.argv", ["fletching", *words])
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert (ended.value.code or 0) == exits, printed.err
        return printed

    return run


def test_a_login_is_where_commands_work(shell: Any, server: Any) -> None:
    message = shell("login", server.url, "--name", "lab", "--access-key-file", "key").err
    assert "signed in" in message
    assert "1 table" in message
    assert "sesame" not in message
    assert shell("head", "t").out == "id\n1\n"
    assert shell("head", "t", "--at", "lab").out == "id\n1\n"
    assert shell("head", "t", "--at", server.url).out == "id\n1\n"  # its key is known
    status = json.loads(shell("status", "--json").out)
    assert (status["at"], status["from"], status["access_id"]) == (server.url, "profile lab", "me")
    assert status["reachable"]
    assert "lab (default)" in shell("status").out
    shell("logout")
    assert "no data folder" in shell("head", "t", exits=ExitCode.USAGE).err


def test_the_key_comes_by_stdin_and_is_tried_before_it_is_kept(
    shell: Any, server: Any, tmp_path: Path
) -> None:
    refused = shell(
        "login", server.url, "--access-key-file", "-", stdin="me:wrong", exits=ExitCode.LOGIN
    )
    assert "sesame" not in refused.err
    assert not (tmp_path / "config").exists()
    shell("login", server.url, "--access-key-file", "-", stdin="me:sesame\n")
    assert shell("head", "t").out == "id\n1\n"
    assert "nobody is here to ask" in shell("login", server.url, exits=ExitCode.USAGE).err
    shell("login", server.url, "--access-key-file", "-", stdin="nonsense", exits=ExitCode.USAGE)


def test_the_environment_counts_before_a_profile(
    shell: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell("login", server.url, "--name", "lab", "--access-key-file", "key")
    shell("create", "x", "id BIGINT", "--at", "./here")
    assert "no data folder" not in shell("ls", "--at", "here").err
    monkeypatch.setenv("FLETCHING_AT", "here")
    assert json.loads(shell("status", "--json").out)["from"] == "FLETCHING_AT"
    monkeypatch.setenv("FLETCHING_AT", "lab")
    assert shell("head", "t").out == "id\n1\n"
    monkeypatch.delenv("FLETCHING_AT")
    monkeypatch.setenv("FLETCHING_PROFILE", "nosuch")
    assert "lab" in shell("ls", exits=ExitCode.USAGE).err


def test_a_folder_has_a_profile_too(shell: Any, tmp_path: Path) -> None:
    shell("create", "x", "id BIGINT", "--at", "./place/data")
    shell("login", "place/data", "--name", "mine")
    assert json.loads(shell("status", "--json").out)["at"] == str(tmp_path / "place" / "data")
    assert "no profile nosuch" in shell("logout", "nosuch", exits=ExitCode.USAGE).err


def test_status_says_what_is_wrong(shell: Any) -> None:
    printed = shell("status", "--at", "http://127.0.0.1:9", "--wait", "0", exits=ExitCode.USAGE)
    assert "not reachable" in printed.out
    assert "fletching login" in printed.err
