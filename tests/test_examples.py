"""Every program of examples/ runs in a clean folder, twice, and is listed in its README."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples"
PROGRAMS = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_an_example_runs(program: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLETCHING_")}
    environment["HOME"] = environment["XDG_CONFIG_HOME"] = str(tmp_path / "home")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(program)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_list_is_whole() -> None:
    text = (FOLDER / "README.md").read_text()
    assert [path.name for path in PROGRAMS if f"]({path.name})" not in text] == []
    assert len(PROGRAMS) >= 8
