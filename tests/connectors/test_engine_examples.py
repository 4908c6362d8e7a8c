"""Every program of examples/engines/ runs in a clean folder, twice, and is listed in the README."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
PROGRAMS = sorted((FOLDER / "engines").glob("*.py"))

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]

STARTED_TOO_SLOWLY = ("node timed out during startup", "Python worker failed to connect back")
"""What Ray after 30 seconds, and Spark after 10, says of processes of its own on a host that is busy; neither
has a setting for it, and it says nothing of the program."""


def needed(program: Path) -> set[str]:
    """The packages that a program imports."""
    tree = ast.parse(program.read_text())
    found = {
        name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    found |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in found}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_runs(program: Path, tmp_path: Path) -> None:
    absent = sorted(name for name in needed(program) if importlib.util.find_spec(name) is None)
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    if (
        "pyspark" in needed(program)
        and shutil.which("java") is None
        and "JAVA_HOME" not in os.environ
    ):
        pytest.skip("Spark needs Java 17, and there is none")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLETCHING_")}
    environment["HOME"] = environment["XDG_CONFIG_HOME"] = str(tmp_path / "home")
    # What is cheap to start runs twice: a program finds what it left.
    for _ in range(1 if needed(program) & {"ray", "pyspark", "torch"} else 2):
        for attempt in range(5):
            place = tmp_path / str(attempt)
            place.mkdir(exist_ok=True)
            done = subprocess.run(
                [sys.executable, "-W", "ignore", str(program)],
                cwd=place,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if not any(words in done.stderr for words in STARTED_TOO_SLOWLY):
                break
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_the_list_is_whole() -> None:
    text = (FOLDER / "README.md").read_text()
    assert [path.name for path in PROGRAMS if f"](engines/{path.name})" not in text] == []
    assert len(PROGRAMS) >= 9
