from __future__ import annotations

import socket
from pathlib import Path

from typer.testing import CliRunner

from fletching.cli.main import app
from fletching.errors import UsageError


def test_the_console_is_at_a_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert CliRunner().invoke(app, ["console", "--at", url]).stdout == f"{url}/console\n"
    refused = CliRunner().invoke(app, ["console", "--at", str(tmp_path)])
    assert isinstance(refused.exception, UsageError)
