"""Commands are found by name and loaded when they run."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.cli.conftest import run
from typer.testing import CliRunner

from fletching.cli.command_group import COMMANDS, app
from fletching.errors import UsageError


def test_help_loads_no_command_and_no_arrow() -> None:
    program = (
        "import sys\nsys.argv = ['fletching', '--help']\n"
        "from fletching.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], text=True, check=True, capture_output=True
    )
    loaded = set(done.stderr.split())
    heavy = {"pyarrow", "numpy", "sqlalchemy", "uvicorn", "rich.console", "fletching.client"}
    assert not loaded & heavy
    for command in COMMANDS:
        assert command.summary in done.stdout
        assert f"fletching.cli.{command.home.partition(':')[0]}" not in loaded
    assert max(map(len, done.stdout.splitlines())) <= 80


def refused(*words: str) -> str:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2, result.output
    return result.output


@pytest.mark.parametrize("text", ["1_0", " 1", "\u0661", "1e1", "0x1", "ten", ""])
def test_a_whole_number_is_digits(text: str) -> None:
    assert "is not a whole number" in refused("head", "t", "-n", text)
    assert "is not a whole number" in refused("lz4", "compress", "--level", text, "in", "out")


@pytest.mark.parametrize("text", ["1_0", "nan", "inf", "-inf", "1e", "1e_1", "."])
def test_a_number_is_none_of_pythons_others(text: str) -> None:
    assert "is not a number" in refused("head", "t", "--wait", text)


def test_numbers_are_checked_as_before() -> None:
    for number in ("+5", "0012"):
        with pytest.raises(UsageError, match="no data folder"):
            run("head", "t", "--at", "nowhere/at/all", "-n", number, "--wait", "1.5e-1")
    assert "1" in refused("head", "t", "-n", "0")
    # Sizes may carry a unit.
    with pytest.raises(UsageError, match="no data folder"):
        run("head", "t", "--at", "nowhere/at/all", "--cache-bytes", "5 MiB")
