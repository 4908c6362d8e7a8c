"""How commands speak: for people on a terminal, for programs elsewhere, and of what takes time."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import json
import types
from typing import Any

import pyarrow as pa
import pytest

from fletching.cli.head import print_rows
from fletching.cli.main import _say
from fletching.cli.output import (
    bytes_figure,
    count_figure,
    counted,
    print_json,
    print_table,
    print_text,
    progress,
    say,
    tsv_line,
)
from fletching.client import progress as drawing


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bytes_are_in_units_for_people_and_plain_for_programs() -> None:
    assert bytes_figure(1_500_000) == ("1.5 MB", "1500000")


def test_counts_and_their_nouns() -> None:
    assert [counted(n, "row") for n in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]
    assert count_figure(1234567) == ("1,234,567", "1234567")


def test_tab_separated_values_escape_what_would_break_a_line() -> None:
    assert tsv_line(["a", None, "", "x\ty\nz\r\\N"]) == "a\t\\N\t\tx\\ty\\nz\\r\\\\N\n"


def test_json_has_a_form_for_what_json_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    moment = dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC)
    print_json({"b": b"x", "t": moment, "d": decimal.Decimal("1.50"), "s": (1, 2), "u": "ü"})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {
        "b": "eA==",
        "t": "2026-01-02T03:04:00+00:00",
        "d": "1.50",
        "s": [1, 2],
        "u": "ü",
    }
    assert "ü" in printed
    for wrong in (object(), float("nan")):
        with pytest.raises((TypeError, ValueError)):
            print_json({"x": wrong})
    assert capsys.readouterr().out == ""


ROWS = [("a[us]", count_figure(1234)), ("b", count_figure(5))]


def test_a_table_is_tab_separated_where_no_terminal_is(capsys: Any) -> None:
    print_table(["name", "rows"], ROWS, figures=["rows"], title="title", caption="two tables")
    printed = capsys.readouterr()
    assert printed.out == "name\trows\na[us]\t1234\nb\t5\n"
    assert printed.err == "two tables\n"


def test_a_table_on_a_terminal_has_figures_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    print_table(["name", "rows"], ROWS, figures=["rows"], title="title", caption="two tables")
    printed = terminal.getvalue()
    for text in ("title", "a[us]", "1,234", "two tables"):
        assert text in printed
    assert "\t" not in printed


def test_diagnostics_go_to_stderr(capsys: Any) -> None:
    say("wait")
    assert capsys.readouterr() == ("", "wait\n")


def test_progress_is_a_line_now_and_then_where_no_bar_can_be(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    now = [0.0]
    monkeypatch.setattr(drawing, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    with progress("events", 5000) as task:
        task.add(10, 100)
        assert capsys.readouterr().err == ""
        now[0] = drawing.LINE_SECONDS
        task.add(990, 900_000)
        task.add(1, 0)
        line = "events: 1,000 of 5,000 rows, 900.1 kB, 90.0 kB/s\n"
        assert capsys.readouterr().err == line
        task.restart("again", None)
        assert (task.done, task.bytes) == (0, 0)
        now[0] += drawing.LINE_SECONDS
        task.reach(7, 8)
        assert capsys.readouterr().err == "again: 7 of 8 rows\n"
    with progress("copy", 2000, unit="bytes") as task:
        now[0] += drawing.LINE_SECONDS
        task.add(1000)
        assert capsys.readouterr().err == "copy: 1.0 kB of 2.0 kB, 100 B/s\n"
    with progress("copy", 2000, unit="bytes", quiet=True) as task:
        now[0] += 60.0
        task.add(1000)
    assert capsys.readouterr().err == ""


def test_a_bar_is_drawn_on_a_terminal_and_names_are_no_markup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress("t[red]x", 10) as task:
        task.add(5)
    assert "[############------------] t[red]x: 5 of 10 rows" in terminal.getvalue()


HOSTILE = "a\x1b[2J\x9b2J\r\x07\u202eb"
COMMANDS = ("\x1b[2J", "\x9b", "\r", "\x07", "\u202e")


def test_what_others_wrote_commands_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout, stderr = Terminal(), Terminal()
    monkeypatch.setattr("sys.stdout", stdout)
    monkeypatch.setattr("sys.stderr", stderr)
    say(f"{HOSTILE}\nnext")
    _say(f"{HOSTILE}\nnext")
    print_text(f"{HOSTILE}\nnext")
    print_table(["column"], [[HOSTILE]], caption=HOSTILE)
    print_json({"text": HOSTILE})
    print_rows(pa.table({"text": [HOSTILE]}), as_json=True)
    printed = stdout.getvalue() + stderr.getvalue()
    assert not [each for each in COMMANDS if each in printed]
    assert printed.count("\nnext\n") == 2
    assert "next\x1b[0m\n" in printed  # the colours of errors are ours
    lines = [line for line in printed.splitlines() if line.startswith("{")]
    assert [json.loads(line) for line in lines] == [{"text": HOSTILE}] * 2
    with progress(HOSTILE) as task:
        task.add(1)
    assert "\x1b[2J" not in stderr.getvalue()


def test_programs_get_what_others_wrote_as_it_is(capsys: Any) -> None:
    print_text(HOSTILE)
    print_json({"text": HOSTILE})
    print_table(["column"], [[HOSTILE]])
    printed = capsys.readouterr().out
    assert printed.startswith(HOSTILE)
    assert printed.count("\u202e") == 3
