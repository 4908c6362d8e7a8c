"""The table commands, run in this process on a folder; ``main`` alone turns errors into exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from fletching.cli.main import app, main

TABLE = pa.table(
    {
        "id": [1, 2, 3],
        "name": ["a", None, "long " * 30],
        "at": pa.array([0, 1, None], pa.timestamp("us")),
    }
)


def run(*words: object) -> Result:
    """What a command prints that succeeds; raises what it raises."""
    result = CliRunner().invoke(app, [*map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def run_at(at: Path | str, *words: object) -> Result:
    """The same on a data folder or service."""
    return run(*words, "--at", at)


class Shell:
    """Runs commands on one folder and keeps what they print."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self.folder, self._monkeypatch, self._capsys = folder, monkeypatch, capsys
        self.location: tuple[str, ...] = ("--at", str(folder / "data"))

    def __call__(self, *words: str, exits: int = 0) -> str:
        for name in [name for name in os.environ if name.startswith("FLETCHING_")]:
            self._monkeypatch.delenv(name)
        words = (*words, *self.location)
        self._monkeypatch.setattr("sys.argv", ["fletching", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = self._capsys.readouterr()
        self.errors = printed.err
        assert (ended.value.code or 0) == exits, printed.err
        assert "Traceback" not in printed.err
        return str(printed.out)

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    monkeypatch.chdir(tmp_path)
    pq.write_table(TABLE, "in.parquet")
    return Shell(tmp_path, monkeypatch, capsys)
