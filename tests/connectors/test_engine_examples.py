"""Every program of examples/engines/ runs in a clean folder, twice, and is listed in the README.

So does what docs/engines.md prints for each engine with workers, after what it prints before them all.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples"
PROGRAMS = sorted((FOLDER / "engines").glob("*.py"))


def printed() -> dict[str, str]:
    """The blocks of docs/engines.md that need an engine with workers, by their section."""
    result: dict[str, str] = {}
    for section in (ROOT / "docs" / "engines.md").read_text().split("\n## ")[1:]:
        blocks = re.findall(r"^```py\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        if blocks:
            result[section.partition("\n")[0]] = "\n".join(blocks)
    return result


BEFORE_ALL, *SECTIONS = printed()

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]

STARTED_TOO_SLOWLY = ("node timed out during startup", "Python worker failed to connect back")
"""What Ray after 30 seconds, and Spark after 10, says of processes of its own on a host that is busy; neither
has a setting for it, and it says nothing of the program."""


def needed(program: str) -> set[str]:
    """The packages that a program imports, by itself or by our connectors."""
    tree = ast.parse(program)
    result = {
        name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    result |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = "fletching.connectors."
    engines = {name.removeprefix(ours) for name in result if name.startswith(ours)}
    return {name.partition(".")[0] for name in result | engines} - {"spark"}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_runs(program: Path, tmp_path: Path) -> None:
    imported = needed(program.read_text())
    # What is cheap to start runs twice: a program finds what it left.
    runs_through(program, imported, tmp_path, 1 if imported & {"ray", "pyspark", "torch"} else 2)


@pytest.mark.parametrize("section", SECTIONS)
def test_what_the_page_prints_runs(section: str, tmp_path: Path) -> None:
    text = printed()
    program = tmp_path / "program.py"
    program.write_text(
        f"{text[BEFORE_ALL]}\n{text[section]}\nclient.close()\nserver.close()\nprint('done')\n"
    )
    runs_through(program, needed(text[section]), tmp_path, 1)


def test_the_page_prints_every_engine() -> None:
    assert BEFORE_ALL == "A service for workers"
    assert [section.partition(",")[0] for section in SECTIONS] == [
        "Dask", "Ray", "Spark", "PyTorch", "pandas",
    ]  # fmt: skip


def runs_through(program: Path, imported: set[str], tmp_path: Path, times: int) -> None:
    """Runs a program in a process and an empty folder of its own."""
    absent = sorted(name for name in imported if importlib.util.find_spec(name) is None)
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    if "pyspark" in imported and shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("Spark needs Java 17, and there is none")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLETCHING_")}
    environment["HOME"] = environment["XDG_CONFIG_HOME"] = str(tmp_path / "home")
    environment["SPARK_LOCAL_IP"] = "127.0.0.1"
    for _ in range(times):
        for attempt in range(5):
            location = tmp_path / str(attempt)
            location.mkdir(exist_ok=True)
            done = subprocess.run(
                [sys.executable, "-W", "ignore", str(program)],
                cwd=location,
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
