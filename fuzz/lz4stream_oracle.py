"""What lz4stream promises about any bytes: contents, or one of its errors, however they are cut.

Shared by the fuzz target and by a test that runs it on known and damaged streams. Three ways
through the decoder and ``lz4.block`` alone must give the same contents and the same verdict.
"""

from __future__ import annotations

import lz4.block

from fletching import lz4stream
from fletching.errors import DecompressionError, LimitExceededError, WireError

MAX_BLOCK_BYTES = 70_000
MAX_TOTAL_BYTES = 1_000_000


def decoded(
    data: bytes, width: int, chunk: int, *, end_mark: bool, max_block_bytes: int = MAX_BLOCK_BYTES
) -> tuple[bytes, str, bytes]:
    """What came out, the verdict, and what was left."""
    decoder = lz4stream.Decoder(
        store_comp_size=width,
        end_mark=end_mark,
        max_block_bytes=max_block_bytes,
        max_total_bytes=MAX_TOTAL_BYTES,
    )
    out = bytearray()
    failure: WireError | None = None
    try:
        for start in range(0, len(data), chunk):
            decoder.feed(data[start : start + chunk])
            for piece in decoder.events():
                out += piece
        decoder.finish()
    except WireError as error:
        failure = error
    assert len(out) <= MAX_TOTAL_BYTES
    if failure is not None:
        assert failure.offset is not None
        assert 0 <= failure.offset <= len(data)
        # How much came out before a limit depends on the pieces; where damage is does not.
        limited = isinstance(failure, LimitExceededError)
        return bytes(out), f"{'limit' if limited else type(failure)} at {failure.offset}", b""
    assert decoder.bytes_out == len(out)
    return bytes(out), "whole", decoder.unused_data


def by_block(data: bytes, width: int) -> tuple[bytes, bool]:
    """The contents by ``lz4.block`` alone, as far as blocks decode; whether all of them did."""
    out = b""
    position = 0
    while position + width <= len(data):
        length = int.from_bytes(data[position : position + width], "little")
        block = data[position + width : position + width + length]
        if not 0 < length == len(block):
            return out, False
        try:
            out += lz4.block.decompress(
                block, uncompressed_size=MAX_BLOCK_BYTES, dict=out[-65_536:]
            )
        except lz4.block.LZ4BlockError:
            return out, False
        if len(out) > MAX_TOTAL_BYTES:
            return out, False
        position += width + length
    return out, position == len(data)


def decoders_agree(data: bytes) -> None:
    for width in (1, 2, 4):
        for end_mark in (False, True):
            whole = decoded(data, width, max(len(data), 1), end_mark=end_mark)
            for chunk in (1, 3, 1000):
                if len(data) // chunk < 5000:
                    cut = decoded(data, width, chunk, end_mark=end_mark)
                    if not whole[1].startswith("limit"):
                        assert cut == whole
                    else:
                        assert cut[1].startswith("limit")
        contents, complete = by_block(data, width)
        out, verdict, _ = decoded(data, width, max(len(data), 1), end_mark=False)
        if complete:
            assert (out, verdict) == (contents, "whole")
        elif not verdict.startswith("limit"):
            assert verdict != "whole"
            assert out == contents


def drop_in_agrees(data: bytes) -> None:
    reader = lz4stream.LZ4StreamDecompressor("ring_buffer", MAX_BLOCK_BYTES)
    out, position = b"", 0
    verdict = "whole"
    while position < len(data):
        try:
            block = reader.get_block(memoryview(data)[position:])
            out += reader.decompress(block)
        except lz4stream.LZ4StreamError:
            verdict = "error"
            break
        position += 4 + len(block)
        if len(out) > MAX_TOTAL_BYTES:
            return
    expected, complete = by_block(data, 4)
    assert out == expected
    assert (verdict == "whole") == complete


def round_trips(data: bytes) -> None:
    """The first bytes choose how the rest is compressed."""
    choice = int.from_bytes(data[:4], "little")
    content = data[4:]
    width = (1, 2, 4)[choice % 3]
    page = 1 + (choice >> 2) % (239 if width == 1 else 5000)
    options = {"store_comp_size": width, "dictionary": content[: (choice >> 16) % 300]}
    packed = b"".join(
        lz4stream.compress(
            content,
            page_bytes=page,
            strategy=("ring_buffer", "double_buffer")[choice >> 8 & 1],
            mode=("default", "fast", "high_compression")[(choice >> 9) % 3],
            compression_level=1 + (choice >> 11) % 12,
            acceleration=1 + (choice >> 12) % 70,
            end_mark=True,
            **options,
        )
    )
    chunk = 1 + (choice >> 20) % 3000
    chunks = [packed[start : start + chunk] for start in range(0, len(packed), chunk)]
    for limit in (page, 4 << 20):
        pieces = lz4stream.decompress(chunks, end_mark=True, max_block_bytes=limit, **options)
        assert b"".join(pieces) == content
    if content:
        try:
            b"".join(lz4stream.decompress(packed[:-1], end_mark=True, **options))
        except DecompressionError:
            raise AssertionError("a cut was taken for damage") from None
        except WireError:
            return
        raise AssertionError("a cut went unnoticed")


def everything(data: bytes) -> None:
    decoders_agree(data)
    drop_in_agrees(data)
    round_trips(data)
