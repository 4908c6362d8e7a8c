"""Files that a service passed: kept by what they are, a few at a time, and none of them leaked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fletching.client.transports.http import passed_files
from fletching.client.transports.http.passed_files import PassedFiles


class OpenFile:
    def __init__(self, descriptor: int, length: int) -> None:
        if not length:
            raise ValueError("nothing is in it")
        self.descriptor = descriptor

    @property
    def is_deleted(self) -> bool:
        return os.fstat(self.descriptor).st_nlink == 0

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


def test_few_files_are_kept_and_none_is_leaked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def passed(name: str) -> int:
        (tmp_path / name).write_bytes(b"data")
        return os.open(tmp_path / name, os.O_RDONLY)

    def kept() -> int:
        links = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
        return sum(link.startswith(str(tmp_path)) for link in links)

    monkeypatch.setattr(passed_files, "KEPT_FILES", 2)
    files = PassedFiles(OpenFile)
    (first,) = files.open([passed("a")], [4])
    again, other = files.open([os.open(tmp_path / "a", os.O_RDONLY), passed("b")], [4, 4])
    assert again is first
    assert kept() == 2
    del first, again, other
    (tmp_path / "a").unlink()
    assert kept() == 1 + 1  # it has no name, and its space is not free
    files.open([passed("c")], [4])
    assert kept() == 2
    files.open([passed("d")], [4])
    assert kept() == 2
    with pytest.raises(ValueError, match="nothing is in it"):
        files.open([passed("e"), passed("f")], [0, 4])
    assert kept() == 2
    files.clear()
    assert kept() == 0
