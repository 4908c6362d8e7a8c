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
