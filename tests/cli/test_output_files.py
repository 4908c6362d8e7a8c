"""Where commands write: a file takes its name once everything is in it, and what was there stays until then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fletching.cli.output_files import may_write, writing
from fletching.errors import UsageError


def test_a_file_takes_its_name_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with writing(str(path), replace=False) as file:
        file.write(b"made")
        assert not path.exists()
    assert path.read_bytes() == b"made"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def broken(path: Path, *, replace: bool) -> None:
    with writing(str(path), replace=replace) as file:
        file.write(b"half")
        raise ZeroDivisionError


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError):
        broken(path, replace=True)
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_file_that_appeared_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out"

    def meanwhile() -> None:
        with writing(str(path), replace=False) as file:
            file.write(b"ours")
            path.write_bytes(b"theirs")

    with pytest.raises(UsageError, match="appeared meanwhile"):
        meanwhile()
    assert path.read_bytes() == b"theirs"


def test_a_link_s_target_is_replaced_and_a_pipe_stays_one(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with writing(str(link), replace=True) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    with writing(os.devnull, replace=False) as file:
        file.write(b"gone")


def test_what_may_be_written_is_known_before(tmp_path: Path) -> None:
    path = tmp_path / "out"
    assert may_write("-", replace=False)
    assert not may_write(str(path), replace=False)
    path.touch()
    assert may_write(str(path), replace=True)
    for target, words in (
        (path, "--replace replaces it"),
        (tmp_path, "is a folder"),
        (path / "x", "no folder"),
    ):
        with pytest.raises(UsageError, match=words):
            may_write(str(target), replace=False)
