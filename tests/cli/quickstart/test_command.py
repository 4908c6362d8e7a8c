from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from fletching.cli.output import ExitCode
from fletching.cli.quickstart import command, files
from fletching.cli.quickstart.files import installed_files
from fletching.cli.quickstart.sources import Load, Source, standard_library


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A small standard library: two packages, so two partitions."""
    root = tmp_path / "lib"
    for package in ("alpha", "beta"):
        (root / package).mkdir(parents=True)
        for number in range(5):
            (root / package / f"m{number}.py").write_text("x = 1\n\n    y = 'ü'\n" * 20)
    return root


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Installed packages with data, code and an empty file."""
    root = tmp_path / "packages"
    (root / "pkg").mkdir(parents=True)
    (root / "pkg" / "icon.png").write_bytes(b"\x89PNG" + bytes(5000))
    (root / "pkg" / "empty.dat").write_bytes(b"")
    (root / "pkg" / "code.py").write_text("pass\n")
    return root


def run(folder: Path, source: Path | None, capsys: Any) -> list[dict[str, Any]]:
    command.quickstart(folder, source, as_json=True)
    steps: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return steps


def test_the_main_job_runs_and_runs_again(
    tmp_path: Path, library: Path, packages: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(command, "standard_library", lambda: standard_library(library))
    monkeypatch.setattr(command, "installed_files", lambda: installed_files(packages))
    for _ in range(2):
        steps = run(tmp_path / "data", None, capsys)
        rows = {(step["table"], step["name"]): step["rows"] for step in steps}
        assert rows["stdlib_files", "write, 2 streams"] == 10
        assert rows["stdlib_files", "compare all"] == 10
        assert rows["stdlib_files", "compare partition"] == 5
        assert rows["stdlib_lines", "compare columns"] == 10 * 60
        assert rows["quickstart_files", "read blobs, compare"] == 2


def test_the_users_own_files(tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    pq.write_table(pa.table({"a": [1.5, float("nan")]}), folder / "x.parquet")
    pq.write_table(pa.table({"a": [2.5]}), folder / "y.parquet")
    steps = run(tmp_path / "data", folder, capsys)
    rows = {(step["table"], step["name"]): step["rows"] for step in steps}
    assert rows["mine", "compare all"] == 3
    assert rows["mine", "compare partition"] == 2
    assert rows["quickstart_files", "read blobs, compare"] == 2


def test_a_difference_is_found_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    given = iter([[1, 2, 3]])

    def changing() -> Generator[pa.RecordBatch, None, None]:
        # What is compared against later is not what was written.
        yield pa.record_batch({"a": next(given, [1, 2, 4])})

    source = Source(
        table="t",
        schema=pa.schema([("a", pa.int64())]),
        partition_by=(),
        loads=(Load("one", None, changing),),
        sample_partition="",
        origin="a test",
    )
    monkeypatch.setattr(command, "standard_library", lambda: [source])
    monkeypatch.setattr(command, "installed_files", lambda: None)
    with pytest.raises(typer.Exit) as ended:
        command.quickstart(tmp_path / "data", None, as_json=True)
    assert ended.value.exit_code == ExitCode.DIFFERENT
    assert "row 2, column a: the value differs" in capsys.readouterr().err


def test_people_get_a_table_and_what_to_try_next(
    tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(command, "standard_library", lambda: standard_library(library))
    monkeypatch.setattr(command, "installed_files", lambda: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(tmp_path / ".venv" / "bin" / "fletching")])
    monkeypatch.setenv("PATH", "")
    command.quickstart(tmp_path / "data", None)
    printed = capsys.readouterr().out
    for text in ("every value came back", "stdlib_lines", "speed", " .venv/bin/fletching serve "):
        assert text in printed


def test_large_files_are_read_back_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(files, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(files, "PIECE_BYTES", 700)
    folder = tmp_path / 'it\'s "mine"'
    (folder / "day=2026-01-01").mkdir(parents=True)
    pq.write_table(pa.table({"a": range(1000)}), folder / "day=2026-01-01" / "x.parquet")
    (folder / "day=2026-01-01" / "y.csv").write_text("a\n1\n")
    steps = run(tmp_path / "data", folder, capsys)
    by_name = {(step["table"], step["name"]): step for step in steps}
    stored, back = (
        by_name["quickstart_files", name]
        for name in ("store files as blobs", "read blobs, compare")
    )
    assert (
        (back["rows"], back["bytes"]) == (stored["rows"], stored["bytes"]) == (2, stored["bytes"])
    )


def test_rows_are_moved_over_http_and_memory_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is mapped is neither moved nor in bounded memory."""
    report: dict[str, Any] = {}

    def serve(*_: object, **options: Any) -> Any:
        report["serve"] = options
        raise KeyboardInterrupt

    monkeypatch.setattr("fletching.serve", serve)
    with pytest.raises(KeyboardInterrupt):
        command.quickstart(tmp_path / "data", None)
    assert report["serve"]["mapped_bytes"] == command.RESIDENT_BYTES <= 256 << 20
