"""Real files as blobs: which are taken, and a blob that comes back otherwise is a difference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fletching
from fletching.cli.quickstart import files
from fletching.cli.quickstart.files import FileSource, installed_files, move_files, user_blobs
from fletching.cli.quickstart.job import Mismatch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = tmp_path / "packages"
    (base / "pkg" / "__pycache__").mkdir(parents=True)
    (base / "pkg" / "__pycache__" / "kept.dat").write_bytes(b"no")
    (base / "pkg" / "code.PY").write_text("pass")
    (base / "pkg" / "icon.png").write_bytes(b"icon" * 5)
    (base / "pkg" / "table.csv").write_bytes(b"a\n" * 5)
    (base / "pkg" / "link.png").symlink_to(base / "pkg" / "icon.png")
    return base


def names(source: FileSource | None) -> list[str]:
    assert source is not None
    return [path.relative_to(source.base).as_posix() for path in source.paths]


def test_data_files_of_packages_are_taken_and_code_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert names(installed_files(folder)) == ["pkg/icon.png", "pkg/table.csv"]
    monkeypatch.setattr(files, "MAX_BYTES", 15)
    assert names(installed_files(folder)) == ["pkg/table.csv"]
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    monkeypatch.setattr(files, "MAX_FILES", 1)
    assert names(installed_files(folder)) == ["pkg/icon.png"]
    assert installed_files(folder / "none") is None


def test_all_files_of_the_user_are_taken(folder: Path) -> None:
    assert names(user_blobs(folder)) == ["pkg/code.PY", "pkg/icon.png", "pkg/table.csv"]
    assert names(user_blobs(folder / "pkg" / "icon.png")) == ["icon.png"]


@pytest.mark.parametrize("whole_bytes", [1 << 20, 5])
def test_a_blob_that_comes_back_otherwise_is_a_difference(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_bytes: int
) -> None:
    monkeypatch.setattr(files, "WHOLE_BYTES", whole_bytes)
    monkeypatch.setattr(files, "PIECE_BYTES", 7)
    moved: list[tuple[str, int, int]] = []
    with fletching.connect(tmp_path / "data", create=True) as client:
        source = user_blobs(folder)

        def steps() -> Iterator[Any]:
            return move_files(client, source, lambda *what: moved.append(what))

        stored, back = list(steps())
        assert (stored.rows, back.rows) == (3, 3)
        assert stored.bytes == back.bytes == sum(path.stat().st_size for path in source.paths)
        assert {what[0] for what in moved} == {"store files as blobs", "read blobs, compare"}
        # A checksum of something else than was stored.
        monkeypatch.setattr(files, "_sha256", lambda _path: "0" * 64)
        with pytest.raises(Mismatch, match=r"row 0, column content: pkg/code\.PY differs"):
            list(steps())
