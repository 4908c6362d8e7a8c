from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from fletching.cli.cells import (
    Column,
    cut,
    grid_lines,
    shown_columns,
    tsv_columns,
    vertical_lines,
    width_of,
)

MANY = pa.table({f"column_{n}": [n, n * 1000] for n in range(22)})


def test_what_looks_alike_is_told_apart() -> None:
    rows = pa.table(
        {
            "text": ["", None, "null", " x", "a"],
            "data": [b"", None, b"null", b"\x00", b"a"],
            "both": ["x''", "''", "NULL", "\t", "a b"],
        }
    )
    shown = {column.name: column.cells for column in shown_columns(rows)}
    assert shown["text"] == ["''", "null", "'null'", "' x'", "a"]
    assert shown["data"] == ["x''", "null", "x'6e756c6c'", "x'00'", "x'61'"]
    assert shown["both"] == ["'x'''''", "''''''", "'NULL'", r"'\t'", "a b"]
    every = [cell for cells in shown.values() for cell in cells[:3]]
    assert len(set(every) - {"null"}) == len(every) - 2
    assert tsv_columns(rows.select(["data"]))[0][:2] == ["\\x", None]


def test_a_wide_table_shows_what_fits_and_says_what_does_not() -> None:
    lines = list(grid_lines(shown_columns(MANY), 80))
    assert max(map(width_of, lines)) <= 80
    assert lines[0].split()[:2] == ["column_0", "column_1"]
    shown = len(lines[0].split())
    assert lines[4].startswith(f"+ {22 - shown} more columns: column_{shown}, ")
    assert "1000" in lines[3]
    assert "--vertical" in lines[5]
    assert len(lines) == 6


def test_two_hundred_columns_and_one_endless_one() -> None:
    wide = pa.table({f"c{n}": ["x" * 500] for n in range(200)})
    for width in (20, 40, 80, 200):
        lines = list(grid_lines(shown_columns(wide), width))
        assert max(map(width_of, lines)) <= width
        assert "xxxx" in lines[2]
        assert lines[2].endswith("…")


def test_numbers_line_up_at_the_right_and_cjk_takes_two_cells() -> None:
    rows = pa.table({"n": [5, 1000], "w": ["日本", "ab"], "z": ["x", "y"]})
    assert list(grid_lines(shown_columns(rows), 80)) == [
        "   n  w     z",
        "────  ────  ─",
        "   5  日本  x",
        "1000  ab    y",
    ]


def test_rows_one_value_a_line() -> None:
    lines = list(vertical_lines(shown_columns(MANY), 80))
    assert len(lines) == 2 * 23
    assert lines[1].split() == ["column_0", "0"]


def test_cells_cannot_command_the_terminal() -> None:
    rows = pa.table({"\x1b[31mname": ["\x1b[2J", "a\nb"], "rtl": ["\u202eabc", "x"]})
    text = "\n".join(grid_lines(shown_columns(rows), 80))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"\x1b[2J" in text
    assert r"a\nb" in text


@given(
    st.lists(st.lists(st.text(max_size=60), min_size=2, max_size=2), min_size=1, max_size=12),
    st.integers(12, 120),
)
def test_no_line_is_wider_than_the_screen(cells: list[list[str]], width: int) -> None:
    table = pa.table({f"c{n}": values for n, values in enumerate(cells)})
    assert all(width_of(line) <= width for line in grid_lines(shown_columns(table), width))


def test_cutting() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab…"
    assert width_of(cut("日本語", 4)) <= 4
    assert list(grid_lines([Column("a", False, [])], 80)) == ["a", "─"]
