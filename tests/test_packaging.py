"""What is shipped: the wheel's contents, the same bytes each time, and what an import loads.

`make packaging` installs it into clean environments, with every extra and with the lowest versions.
"""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def build(kind: str, target: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (made,) = target.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = email.message_from_bytes(
            archive.read(next(name for name in names if name.endswith("/METADATA")))
        )
        points = archive.read(next(n for n in names if n.endswith("/entry_points.txt"))).decode()
    sources = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == sources
    assert "fletching/py.typed" in names
    assert "fletching = fletching.cli.main:run" in points
    assert set(metadata.get_all("Provides-Extra") or ()) == set(PROJECT["optional-dependencies"])
    assert any(name.endswith("/LICENSE") for name in names)
    assert wheel.stat().st_size < 3_000_000


def test_the_wheel_is_the_same_each_time(wheel: Path, tmp_path: Path) -> None:
    assert build("wheel", tmp_path).read_bytes() == wheel.read_bytes()


def test_addresses_are_those_that_the_release_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report() -> list[str]:
        with zipfile.ZipFile(
            build("wheel", tmp_path / str(len(list(tmp_path.iterdir()))))
        ) as archive:
            (name,) = (n for n in archive.namelist() if n.endswith("/METADATA"))
            return email.message_from_bytes(archive.read(name)).get_all("Project-URL") or []

    monkeypatch.delenv("FLETCHING_REPOSITORY", raising=False)
    assert report() == []
    monkeypatch.setenv("FLETCHING_REPOSITORY", "https://code.example/fletching/")
    assert report()[:2] == [
        "Repository, https://code.example/fletching",
        "Issues, https://code.example/fletching/issues",
    ]
    monkeypatch.setenv("FLETCHING_REPOSITORY", "javascript:x")
    with pytest.raises(subprocess.CalledProcessError):
        report()


def test_the_source_archive_can_be_tested_and_documented(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        "Makefile",
        "hatch_build.py",
        "constraints.txt",
        "mkdocs.yml",
        "CHANGELOG.md",
        "SECURITY.md",
    ):
        assert name in names
    for folder in ("src/fletching", "tests", "docs", "examples", "interop", "benchmarks"):
        assert any(name.startswith(folder + "/") for name in names), folder


def test_the_readme_tells_the_extras_that_are_there() -> None:
    text = (ROOT / "README.md").read_text()
    report = set(re.findall(r"`'fletching\[([a-z0-9]+)\]'`", text))
    assert report <= set(PROJECT["optional-dependencies"])
    assert {"server", "cli", "sql", "polars", "duckdb", "all"} <= report


def loaded(program: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}\nprint(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("program", "never"),
    [
        ("import fletching", {"pyarrow", "numpy", "urllib3", "fletching.client", "msgspec"}),
        (
            "import fletching.client",
            {
                "sqlalchemy",
                "uvicorn",
                "sqlglot",
                "duckdb",
                "polars",
                "pandas",
                "typer",
                "fletching.engine",
                "fletching.server",
                "fletching.cli",
            },
        ),
        ("import fletching.engine.engine", {"pandas", "sqlglot", "duckdb", "uvicorn"}),
        # A server's start; pandas is imported by pyarrow for the first value of Python's that it is given.
        (
            "import fletching.server.server, fletching.sql.predicates.predicate_compiler",
            {"pandas", "duckdb"},
        ),
        ("import fletching.ipc", {"urllib3", "fletching.client", "fletching.engine", "pandas"}),
        ("import fletching.lz4stream", {"pyarrow", "urllib3", "fletching.client"}),
    ],
)
def test_an_import_loads_what_it_needs(program: str, never: set[str]) -> None:
    assert not loaded(program) & never


@pytest.mark.parametrize("extra", ["", "server", "cli", "keyring"])
def test_what_is_required_is_imported(extra: str) -> None:
    required = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    sources = [path.read_text() for path in (ROOT / "src").rglob("*.py")]
    for requirement in required:
        package = re.split(r"[\[>=]", requirement)[0].replace("-", "_")
        pattern = re.compile(rf"^\s*(?:import|from) {package}\b", re.MULTILINE)
        assert any(map(pattern.search, sources)), f"{requirement} is imported nowhere"
