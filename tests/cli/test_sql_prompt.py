from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import fletching
from fletching.cli.sql_prompt import ended


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("select 1;", True),
        ("select 1 ; -- done\n", True),
        ("select 1; /* x */ ", True),
        ("select 1", False),
        ("select ';", False),
        ("select ';' ", False),
        ("select ';';", True),
        ("select 'it\\';s';", True),
        ("select 1 -- ;", False),
        ("select 1 /* ;", False),
        ("select `a;", False),
        (";", True),
    ],
)
def test_when_statements_are_whole(text: str, whole: bool) -> None:
    assert ended(text) is whole


def test_the_prompt_of_a_terminal(tmp_path: Path) -> None:
    """Several lines, a mistake that does not end it, a table within 80 columns, and a history."""
    typed = (
        "create table t (a bigint, b string); insert into t values (1, 'x');\n"
        "select a,\n  b as second\nfrom t;\n"
        "select nothing from t;\n"
        "desc t;\n"
        "exit\n"
    )
    parent, child = pty.openpty()
    environment = {
        **os.environ,
        "FLETCHING_CONFIG_DIR": str(tmp_path / "config"),
        "COLUMNS": "80",
        "TERM": "dumb",
    }
    command = [sys.executable, "-m", "fletching", "sql", "--at", str(tmp_path / "data")]
    fletching.connect(tmp_path / "data", create=True).close()
    process = subprocess.Popen(
        command, stdin=child, stdout=child, stderr=child, env=environment, close_fds=True
    )
    os.close(child)
    os.write(parent, typed.encode())
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal says that its other end is closed
        while piece := os.read(parent, 65_536):
            shown += piece
    assert process.wait() == 0, shown
    os.close(parent)
    text = shown.decode()
    assert "second" in text
    assert "there is no column nothing" in text
    assert "b string" in text
    kept = (tmp_path / "config" / "sql_history").read_text()
    assert "b as second" in kept
    assert max(map(len, text.splitlines())) <= 200


_WITH_TERMINAL = """
import fcntl, runpy, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
runpy.run_module("fletching", run_name="__main__", alter_sys=True)
"""
"""Makes the terminal the one whose keys the process gets as signals, and runs the command."""


def test_what_runs_is_cancelled_by_a_key(tmp_path: Path) -> None:
    """Ctrl-C ends the statement, and the prompt asks for the next one."""
    with fletching.connect(tmp_path / "data", create=True) as client:
        client.sql("create table t (n bigint)")
        client.table("t").append({"n": list(range(3000))})
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _WITH_TERMINAL, "sql", "--at", str(tmp_path / "data")],
        stdin=child,
        stdout=child,
        stderr=child,
        env={**os.environ, "FLETCHING_CONFIG_DIR": str(tmp_path / "config"), "TERM": "dumb"},
        close_fds=True,
        start_new_session=True,
    )
    os.close(child)
    shown = b""

    def until(text: bytes) -> bytes:
        """What is shown up to a text."""
        nonlocal shown
        while text not in shown:
            shown += os.read(parent, 65_536)
        before, _, shown = shown.partition(text)
        return before

    until(b"sql> ")
    # A key that comes before the statement has begun ends the line alone: then once more.
    ended = b""
    while b"cancelled" not in ended:
        os.write(
            parent, b"select count(*) from t a, t b, t c, t d where a.n + b.n + c.n = d.n - 9e9;\n"
        )
        until(b"9e9;")
        until(b"\n")
        os.write(parent, b"\x03")
        ended = until(b"sql> ")
    os.write(parent, b"select 6 * 7 as answer;\n")
    until(b"42")
    os.write(parent, b"exit\n")
    with contextlib.suppress(OSError):
        while os.read(parent, 65_536):
            pass
    assert process.wait() == 0
    os.close(parent)
