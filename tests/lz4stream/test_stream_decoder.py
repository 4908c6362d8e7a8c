from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import lz4.block
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching.errors import (
    DecompressionError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    UsageError,
    WireError,
)
from fletching.lz4stream import Block, Decoder, Encoder

TEXT = b"".join(b"line %d of a text that repeats itself\n" % (n % 700) for n in range(4000))


def encoded(data: bytes, page: int = 1000, **options: Any) -> bytes:
    encoder = Encoder(page, **options)
    return b"".join([*encoder.encode(data), *encoder.finish()])


def contents(decoder: Decoder, chunks: Iterable[bytes]) -> bytes:
    return b"".join(parts(decoder, chunks))


def parts(decoder: Decoder, chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        decoder.feed(chunk)
        yield from decoder.events()
    decoder.finish()


def collect(decoder: Decoder, chunks: Iterable[bytes], into: bytearray) -> None:
    """As ``contents``; ``into`` has what came before an error."""
    for part in parts(decoder, chunks):
        into += part


def cut(data: bytes, sizes: Callable[[], int]) -> Iterator[bytes]:
    position = 0
    while position < len(data):
        size = sizes()
        yield data[position : position + size]
        position += size


@pytest.mark.parametrize(
    ("blocks", "data"),
    [
        ([], b""),
        (["0200 1020"], b" "),
        (["0400 30616263"], b"abc"),
        (["0400 30616263", "0900 020300 50 7878787878"], b"abc" + b"abcabc" + b"xxxxx"),
        (["0100 00", "0400 30616263", "0100 00", "0900 000100 50 3132333435"], b"abc" + b"cccc" + b"12345"),
    ],
    ids=range(5),
)  # fmt: skip
def test_case_table(blocks: list[str], data: bytes) -> None:
    stream = b"".join(bytes.fromhex(block) for block in blocks)
    for chunks in ([stream], [bytes([byte]) for byte in stream]):
        decoder = Decoder(store_comp_size=2)
        assert contents(decoder, chunks) == data
        assert decoder.bytes_consumed == len(stream)
        assert decoder.bytes_out == len(data)
        marked = Decoder(store_comp_size=2, end_mark=True)
        assert contents(marked, [*chunks, b"\x00\x00", b"next ", b"frame"]) == data
        assert marked.eof
        assert marked.unused_data == b"next frame"


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("limit", [200, 65_536, 4 << 20])
def test_whole_byte_by_byte_and_with_trailing_bytes(width: int, limit: int) -> None:
    page = 200
    stream = encoded(TEXT[:5000], page, store_comp_size=width, end_mark=True)
    options: dict[str, Any] = {
        "store_comp_size": width, "end_mark": True, "max_block_bytes": limit,
    }  # fmt: skip
    for chunks in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        decoder = Decoder(**options)
        assert contents(decoder, chunks) == TEXT[:5000]
        assert decoder.eof
        assert decoder.unused_data == b""
        assert decoder.blocks == 25
    decoder = Decoder(**options)
    assert contents(decoder, [stream + b"trailing", b" bytes"]) == TEXT[:5000]
    assert decoder.unused_data == b"trailing bytes"
    assert decoder.bytes_consumed == len(stream)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 3000),
    st.sampled_from([0, 1, 2, 4]),
    st.sampled_from([7, 100, 5000, 10**6]),
    st.sampled_from([4 << 20, 65_536, 3000]),
)
def test_round_trips_with_independent_chunk_sizes(
    seed: int, page: int, width: int, largest_chunk: int, limit: int
) -> None:
    chance = random.Random(seed)
    data = (
        chance.randbytes(chance.randrange(2000)) * chance.randrange(12)
        + TEXT[: chance.randrange(30_000)]
    )
    page = min(page, 239) if width == 1 else page
    encoder = Encoder(page, store_comp_size=width)
    blocks = []
    for chunk in cut(data, lambda: chance.randrange(1, 4000)):
        blocks += encoder.encode(chunk)
    blocks += encoder.finish()
    sizes = [len(block) for block in blocks] if width == 0 else None
    decoder = Decoder(store_comp_size=width, max_block_bytes=limit, block_sizes=sizes)
    chunks = cut(b"".join(blocks), lambda: chance.randrange(1, largest_chunk + 1))
    assert contents(decoder, chunks) == data
    assert decoder.blocks == len(blocks)


def test_every_truncation_is_reported() -> None:
    stream = encoded(TEXT[:3000], 500)
    ends = {0}
    while max(ends) < len(stream):
        at = max(ends)
        ends.add(at + 4 + int.from_bytes(stream[at : at + 4], "little"))
    for length in range(len(stream)):
        decoder = Decoder()
        if length in ends:
            # Without an end mark a cut between blocks cannot be seen; with one it is.
            contents(decoder, [stream[:length]])
            with pytest.raises(TruncatedStreamError, match="end mark"):
                contents(Decoder(end_mark=True), [stream[:length]])
        else:
            with pytest.raises(TruncatedStreamError, match="inside a block") as caught:
                contents(decoder, [stream[:length]])
            start = max(end for end in ends if end < length)
            assert caught.value.offset == start
            assert caught.value.actual == length - start
            assert isinstance(caught.value.expected, int)
            assert caught.value.expected > length - start


def test_a_cut_end_mark_is_reported() -> None:
    stream = encoded(b"abc", end_mark=True)
    for length in range(len(stream)):
        with pytest.raises(TruncatedStreamError):
            contents(Decoder(end_mark=True), [stream[:length]])


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_length_of_zero_is_an_error_unless_it_ends_the_stream(width: int) -> None:
    stream = encoded(b"abc" * 10, 100, store_comp_size=width)
    for chunks in ([stream + bytes(width)], [stream, *([b"\x00"] * width)]):
        decoder = Decoder(store_comp_size=width)
        out = bytearray()
        with pytest.raises(MalformedFrameError, match="length 0") as caught:
            collect(decoder, chunks, out)
        assert out == b"abc" * 10
        assert caught.value.offset == len(stream)


def test_damage_is_found_where_it_is_and_what_came_before_is_given() -> None:
    page = 1000
    chunks = [random.Random(n).randbytes(page) for n in range(20)]
    encoder = Encoder(page)
    blocks = [block for chunk in chunks for block in encoder.encode(chunk)]
    for limit in (page, 4 << 20):
        for index in (0, 7, 19):
            broken = [*blocks]
            broken[index] = b"\x05\x00\x00\x00\x1fA\x09\x00\x50"
            offset = sum(map(len, blocks[:index]))
            for source in ([b"".join(broken)], broken, cut(b"".join(broken), lambda: 700)):
                decoder = Decoder(max_block_bytes=limit)
                out = bytearray()
                with pytest.raises(DecompressionError) as caught:
                    collect(decoder, source, out)
                assert out == b"".join(chunks[:index])
                assert caught.value.offset == offset
                assert caught.value.layer == "lz4stream"
                assert decoder.bytes_consumed == offset
                assert decoder.blocks == index
                # An error is final.
                with pytest.raises(DecompressionError):
                    decoder.feed(b"x")
                with pytest.raises(DecompressionError):
                    next(decoder.events())
                with pytest.raises(DecompressionError):
                    decoder.finish()


@pytest.mark.parametrize("limit", [100, 999, 65_536, 300_000])
def test_a_block_above_the_limit(limit: int) -> None:
    for data in (bytes(limit + 1), random.Random(1).randbytes(limit + 1)):
        stream = encoded(data[:limit], limit + 1)
        assert contents(Decoder(max_block_bytes=limit), [stream]) == data[:limit]
        with pytest.raises(LimitExceededError) as caught:
            contents(Decoder(max_block_bytes=limit), [encoded(data, limit + 1)])
        assert caught.value.offset == 0
        assert caught.value.limit is not None


def test_a_length_above_what_the_limit_allows_is_refused_before_anything_is_gathered() -> None:
    header = (1 << 30).to_bytes(4, "little")
    for chunks in ([header + bytes(10)], [bytes([byte]) for byte in header]):
        decoder = Decoder(max_block_bytes=1 << 20)
        with pytest.raises(LimitExceededError) as caught:
            contents(decoder, chunks)
        assert caught.value.actual == 1 << 30
        assert len(decoder._partial) <= 4
    with pytest.raises(LimitExceededError):  # a frame's stored flag is just a length here
        contents(Decoder(), [(0x80000003).to_bytes(4, "little") + b"abc"])


@pytest.mark.parametrize("limit", [0, 1, 999, 5000, 39_999])
def test_the_whole_is_limited(limit: int) -> None:
    for page, block_limit in ((700, 4 << 20), (700, 700), (40_000, 4 << 20)):
        stream = encoded(bytes(40_000), page)
        decoder = Decoder(max_total_bytes=limit, max_block_bytes=block_limit)
        received = bytearray()
        with pytest.raises(LimitExceededError, match=f"more than {limit} bytes"):
            collect(decoder, [stream], received)
        assert len(received) <= limit
    assert contents(Decoder(max_total_bytes=40_000), [encoded(bytes(40_000))]) == bytes(40_000)


def test_a_bomb_comes_in_bounded_pieces() -> None:
    stream = encoded(bytes(64 << 20), 4 << 20)
    decoder = Decoder()
    decoder.feed(stream)
    sizes = [len(part) for part in decoder.events()]
    assert sum(sizes) == 64 << 20
    assert max(sizes) <= 4 << 20


def test_a_known_size_ends_the_stream() -> None:
    stream = encoded(TEXT[:2000], 500)
    for tail in (b"", b"more", encoded(b"another")):
        decoder = Decoder(size=2000)
        assert contents(decoder, [stream + tail]) == TEXT[:2000]
        assert decoder.eof
        assert decoder.unused_data == tail
    with pytest.raises(MalformedFrameError, match="past the stream's known size of 1999"):
        contents(Decoder(size=1999), [stream])
    with pytest.raises(TruncatedStreamError, match="known size") as caught:
        contents(Decoder(size=2001), [stream])
    assert (caught.value.expected, caught.value.actual) == (2001, 2000)
    assert Decoder(size=0).eof


def test_sizes_out_of_band() -> None:
    encoder = Encoder(300, store_comp_size=0)
    blocks = [*encoder.encode(TEXT[:2000]), *encoder.finish()]
    sizes = [len(block) for block in blocks]
    for chunks in ([b"".join(blocks)], [bytes([byte]) for byte in b"".join(blocks)]):
        decoder = Decoder(store_comp_size=0, block_sizes=iter(sizes))
        assert contents(decoder, [*chunks, b"rest"]) == TEXT[:2000]
        assert decoder.unused_data == b"rest"
    with pytest.raises(TruncatedStreamError, match="last of its blocks"):
        contents(Decoder(store_comp_size=0, block_sizes=sizes), blocks[:-1])
    with pytest.raises(TruncatedStreamError, match="inside a block"):
        contents(Decoder(store_comp_size=0, block_sizes=sizes), [b"".join(blocks)[:-1]])
    for wrong in (0, -1):
        with pytest.raises(MalformedFrameError):
            contents(Decoder(store_comp_size=0, block_sizes=[wrong]), [blocks[0]])
    with pytest.raises(LimitExceededError):
        contents(Decoder(store_comp_size=0, block_sizes=[1 << 30]), [blocks[0]])


def test_block_events_tell_place_and_lengths() -> None:
    stream = encoded(TEXT[:2500], 1000)
    decoder = Decoder()
    decoder.feed(stream[:700])
    blocks = list(decoder.block_events())
    decoder.feed(stream[700:])
    blocks += decoder.block_events()
    decoder.finish()
    assert [len(block.data) for block in blocks] == [1000, 1000, 500]
    history = b""
    for block in blocks:
        assert isinstance(block, Block)
        start = block.offset + 4
        stored = stream[start : start + block.stored_length]
        assert lz4.block.decompress(stored, uncompressed_size=1000, dict=history) == block.data
        history += block.data
    assert blocks[0].offset == 0


def test_events_may_be_left_and_taken_up_again() -> None:
    stream = encoded(bytes(9 << 20), 1 << 20)
    decoder = Decoder()
    decoder.feed(stream)
    first = next(decoder.events())
    with pytest.raises(UsageError, match="exhausted"):
        decoder.finish()
    rest = b"".join(decoder.events())
    decoder.finish()
    assert len(first) + len(rest) == 9 << 20


def test_only_an_incomplete_block_is_copied() -> None:
    stream = bytearray(encoded(TEXT[:20_000], 1000))
    decoder = Decoder()
    decoder.feed(memoryview(stream)[: len(stream) - 10])
    out = b"".join(decoder.events())
    assert 0 < len(decoder._partial) < 1100
    last = bytes(stream[-10:])
    stream[:] = bytes(len(stream))  # the caller's buffer is the caller's again
    decoder.feed(last)
    assert out + b"".join(decoder.events()) == TEXT[:20_000]


def test_other_layers_of_history_decode_too() -> None:
    """Written by lz4.block against any history at all: one page, 64 KiB, none."""
    chunks = [TEXT[start : start + 3000] for start in range(0, 90_000, 3000)]
    for reach in (0, 3000, 65_536):
        stream, history = b"", b""
        for chunk in chunks:
            known = history[-reach:] if reach else b""
            block = lz4.block.compress(chunk, store_size=False, dict=known)
            stream += len(block).to_bytes(4, "little") + block
            history += chunk
        assert contents(Decoder(), [stream]) == b"".join(chunks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"store_comp_size": 3}, "Invalid store_comp_size"),
        ({"store_comp_size": 0}, "block_sizes are for"),
        ({"block_sizes": [1]}, "block_sizes are for"),
        ({"store_comp_size": 0, "block_sizes": [], "end_mark": True}, "no size fields"),
        ({"max_block_bytes": 0}, "max_block_bytes 0"),
        ({"max_block_bytes": 1 << 31}, "max_block_bytes"),
    ],
)
def test_misuse(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Decoder(**options)


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([1, 2, 4]), st.booleans(), st.integers(1, 400))
def test_any_bytes_are_decoded_or_refused(
    stream: bytes, width: int, end_mark: bool, chunk: int
) -> None:
    decoder = Decoder(
        store_comp_size=width, end_mark=end_mark, max_block_bytes=10_000, max_total_bytes=50_000
    )
    out = bytearray()
    failure: WireError | None = None
    try:
        collect(decoder, cut(stream, lambda: chunk), out)
    except WireError as error:
        failure = error
    assert len(out) <= 50_000
    if failure is not None:
        assert failure.layer == "lz4stream"
        assert failure.offset is not None
        assert 0 <= failure.offset <= len(stream)
