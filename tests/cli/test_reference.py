from __future__ import annotations

from pathlib import Path

from fletching.cli.command_group import COMMANDS
from fletching.cli.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_command_line_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text() == reference(), "make docs writes it anew"


def test_every_command_and_sub_command_is_on_the_page() -> None:
    page = PAGE.read_text()
    for command in COMMANDS:
        assert f"## fletching {command.name}\n" in page
    assert "## fletching keys rotate\n" in page
    assert max(map(len, page.partition("```text")[2].splitlines())) <= 80
