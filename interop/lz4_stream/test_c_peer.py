"""Both directions with liblz4's streaming API in ring-buffer and contiguous form."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fletching import lz4stream

HISTORY = 64 * 1024


def run(program: Path, *arguments: object, data: bytes, dictionary: Path | None = None) -> bytes:
    done = subprocess.run(
        [str(program), *map(str, arguments)],
        input=data,
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, **({"DICTIONARY": str(dictionary)} if dictionary else {})},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def ring_sizes(message: int) -> list[int]:
    """Tiny, odd, liblz4's own minimum for any writer, and larger than that."""
    return [2 * message, 3 * message + 7, HISTORY + 14 + message, 300_000 + message]


@pytest.mark.parametrize("level", [0, 4, 11])
@pytest.mark.parametrize("message", [1, 60, 1024, 8192, 70_000])
@pytest.mark.parametrize("corpus", ["text", "random", "far", "mixed"])
def test_reads_what_the_c_program_writes(
    chained_blocks: Path, corpora: dict[str, bytes], corpus: str, message: int, level: int
) -> None:
    data = corpora[corpus][: 5000 * message]
    for layout, sizes in (("ring", ring_sizes(message)), ("contiguous", [0])):
        for size in sizes:
            blocks = run(chained_blocks, "compress", layout, size, message, level, data=data)
            assert b"".join(lz4stream.decompress(blocks)) == data
            reader = lz4stream.LZ4StreamDecompressor("ring_buffer", message)
            pieces, position = [], 0
            while position < len(blocks):
                block = reader.get_block(memoryview(blocks)[position:])
                pieces.append(reader.decompress(block))
                position += 4 + len(block)
            assert b"".join(pieces) == data


@pytest.mark.parametrize("mode", ["default", "fast", "high_compression"])
@pytest.mark.parametrize("page", [60, 1024, 8192, 65_536, 200_000])
@pytest.mark.parametrize("corpus", ["text", "random", "far", "mixed"])
def test_the_c_program_reads_what_we_write(
    chained_blocks: Path, corpora: dict[str, bytes], corpus: str, page: int, mode: str
) -> None:
    data = corpora[corpus][: 5000 * page]
    blocks = b"".join(lz4stream.compress([data], page_bytes=page, mode=mode))
    # liblz4's own rule for a reader whose writer may use any history, and a larger ring.
    for size in (HISTORY + 14 + page, HISTORY + 40_000 + 2 * page):
        assert run(chained_blocks, "decompress", "ring", size, page, data=blocks) == data
    assert run(chained_blocks, "decompress", "contiguous", 0, page, data=blocks) == data


@pytest.mark.parametrize("page", [100, 1000, 8000])
@pytest.mark.parametrize("pages_in_ring", [3, 5])
def test_a_smaller_ring_reads_a_shorter_history(
    chained_blocks: Path, corpora: dict[str, bytes], page: int, pages_in_ring: int
) -> None:
    size = pages_in_ring * page
    for corpus in ("text", "far", "mixed"):
        data = corpora[corpus][: 3000 * page]
        blocks = b"".join(
            lz4stream.compress([data], page_bytes=page, history_bytes=size - 2 * page)
        )
        assert run(chained_blocks, "decompress", "ring", size, page, data=blocks) == data


@pytest.mark.parametrize("length", [10, 5000, 65_536, 90_000])
def test_dictionaries_are_shared(
    chained_blocks: Path, corpora: dict[str, bytes], tmp_path: Path, length: int
) -> None:
    data = corpora["far"]
    path = tmp_path / "dictionary"
    path.write_bytes(data[:length])
    size = HISTORY + 14 + 4096
    blocks = run(chained_blocks, "compress", "ring", size, 4096, data=data, dictionary=path)
    assert b"".join(lz4stream.decompress(blocks, dictionary=data[:length])) == data
    ours = b"".join(lz4stream.compress([data], page_bytes=4096, dictionary=data[:length]))
    assert run(chained_blocks, "decompress", "ring", size, 4096, data=ours, dictionary=path) == data
