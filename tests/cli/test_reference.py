from __future__ import annotations

from pathlib import Path

from fletching.cli.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_command_line_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text() == reference(), "make docs writes it anew"
