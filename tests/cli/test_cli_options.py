from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import fletching
from fletching.cli.main import app


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ("200GiB", None),
        ("1073741824", None),
        ("64 MiB", None),
        ("lots", "--cache-bytes='lots' is not a whole number"),
        ("1.5GiB", "is not a whole number"),
        ("-1", "is not a whole number"),
        ("10GB", "is not a whole number"),
    ],
)
def test_sizes_have_units_on_the_command_line_as_everywhere(
    tmp_path: Path, size: str, says: str | None
) -> None:
    fletching.connect(tmp_path / "data", create=True).close()
    words = ["ls", "--at", str(tmp_path / "data"), f"--cache-bytes={size}"]
    done = CliRunner().invoke(app, words)
    if says is None:
        assert done.exit_code == 0, done.output
    else:
        assert done.exit_code == 2
        assert says in " ".join(done.output.split())
