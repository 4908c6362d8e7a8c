from __future__ import annotations

import lz4.frame
import pytest

from fletching.lz4stream.linked_frames import (
    FRAME_CLASSES,
    STORED_FLAG,
    start_compressing,
    start_decompressing,
)


@pytest.mark.parametrize(("limit", "name"), FRAME_CLASSES)
def test_between_header_and_end_mark_stand_lengths_and_blocks(limit: int, name: int) -> None:
    writer = start_compressing(name, level=0, auto_flush=True)
    blocks = [lz4.frame.compress_chunk(writer, bytes(limit)) for _ in range(2)]
    for block in blocks:
        assert int.from_bytes(block[:4], "little") == len(block) - 4
    reader = start_decompressing(name)
    data, consumed, ended = lz4.frame.decompress_chunk(
        reader, b"".join(blocks), max_length=2 * limit
    )
    assert (data, consumed, ended) == (bytes(2 * limit), sum(map(len, blocks)), False)


@pytest.mark.parametrize(("limit", "name"), FRAME_CLASSES)
def test_a_class_is_a_limit(limit: int, name: int) -> None:
    larger = start_compressing(FRAME_CLASSES[-1][1], level=0, auto_flush=True)
    if limit < FRAME_CLASSES[-1][0]:
        block = lz4.frame.compress_chunk(larger, bytes(limit + 1))
        with pytest.raises(RuntimeError):
            lz4.frame.decompress_chunk(start_decompressing(name), block)


def test_what_does_not_shrink_is_stored_with_a_flag() -> None:
    writer = start_compressing(FRAME_CLASSES[0][1], level=0, auto_flush=True)
    block = lz4.frame.compress_chunk(writer, b"abc")
    assert int.from_bytes(block[:4], "little") == 3 | STORED_FLAG
    assert block[4:] == b"abc"
