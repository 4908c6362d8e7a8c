"""Commands are found by name and loaded when they run."""

from __future__ import annotations

import subprocess
import sys

from fletching.cli.command_group import COMMANDS


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
