"""Packs that are open: read, or copied out of memory, and never beyond the file's end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fletching.client.blobs import open_pack
from fletching.client.blobs.open_pack import OpenPack
from fletching.errors import CorruptObjectError

DATA = bytes(range(256)) * 4096
RANGES = [(start, start + 1000) for start in range(500_000, 0, -25_000)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "pack"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def pack(path: Path) -> OpenPack:
    return OpenPack(os.open(path, os.O_RDONLY), len(DATA))


def _is_mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


@pytest.mark.skipif(open_pack._NOWAIT is None, reason="nothing can be known without waiting")
def test_what_is_in_memory_is_copied_out_of_a_mapping(pack: OpenPack, path: Path) -> None:
    mapping = pack.mapped(RANGES)
    assert mapping is not None
    assert [mapping[a:b] for a, b in RANGES] == [DATA[a:b] for a, b in RANGES]
    assert _is_mapped(path)
    pack.unmap()
    assert mapping[10:30] == DATA[10:30]
    assert mapping[len(DATA) - 5 : len(DATA) + 15] == DATA[-5:]  # short, as its checksum says
    del pack, mapping


def test_what_is_not_is_asked_for_by_few_ranges_and_read(
    pack: OpenPack, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advised: list[tuple[int, int]] = []
    monkeypatch.setattr(OpenPack, "_is_absent", lambda _self, span: span == RANGES[-2])
    monkeypatch.setattr(
        os, "posix_fadvise", lambda _file, start, length, _advice: advised.append((start, length))
    )
    assert pack.mapped(RANGES[:-2]) is not None
    assert not advised
    monkeypatch.setattr(open_pack, "SAMPLES", len(RANGES))
    assert pack.mapped([*RANGES, (900_000, 900_010)]) is None
    assert advised == [(25_000, 476_000), (900_000, 10)]
    assert [pack.read(start, 1000) for start, _ in RANGES] == [DATA[a:b] for a, b in RANGES]


def test_a_file_that_was_cut_is_read_and_is_an_error(pack: OpenPack, path: Path) -> None:
    os.truncate(path, 300_000)
    assert pack.mapped([(0, 10)]) is None
    assert pack.read(0, 10) == DATA[:10]
    assert not _is_mapped(path)
    with pytest.raises(CorruptObjectError, match="ends at byte 300000; it had 1048576"):
        pack.read(299_999, 2)


def test_where_nothing_can_be_mapped_it_is_read(
    pack: OpenPack, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_args: object, **_options: object) -> None:
        raise OSError("no address space")

    monkeypatch.setattr("mmap.mmap", refused)
    assert pack.mapped([(0, 10)]) is None
    pack.unmap()
    monkeypatch.undo()
    monkeypatch.setattr(open_pack, "_NOWAIT", None)
    assert pack.mapped([(0, 10)]) is None
