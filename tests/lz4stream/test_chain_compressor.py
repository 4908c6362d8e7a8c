from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import lz4.block
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folding import folded

from fletching.errors import LZ4StreamError, UsageError
from fletching.lz4stream.chain_compressor import ChainCompressor
from fletching.lz4stream.linked_frames import FRAME_CLASSES

Reference = Callable[[bytes, bytes], bytes]

PAGES = [1, 100, 1024, 8192, 20_000, 65_535, 65_536, 200_000]
MODES: list[dict[str, Any]] = [
    {},
    {"mode": "fast", "acceleration": 5},
    {"mode": "fast", "acceleration": -3},
    {"mode": "high_compression", "compression_level": 1},
    {"mode": "high_compression", "compression_level": 3},
    {"mode": "high_compression", "compression_level": 0},
    {"mode": "high_compression", "compression_level": 16},
]


def decode_with_previous_only(blocks: list[bytes], dictionary: bytes) -> list[bytes]:
    """A reader with two pages: nothing but the chunk before (or the dictionary) is there."""
    chunks, previous = [], dictionary
    for block in blocks:
        previous = lz4.block.decompress(block[4:], uncompressed_size=1 << 20, dict=previous)
        chunks.append(previous)
    return chunks


def decode_with_history(blocks: list[bytes], dictionary: bytes, reach: int = 65_536) -> list[bytes]:
    chunks, history = [], dictionary
    for block in blocks:
        chunk = lz4.block.decompress(
            block[4:], uncompressed_size=1 << 20, dict=history[-reach:] if history else b""
        )
        chunks.append(chunk)
        history = (history + chunk)[-65_536:]
    return chunks


def pages_of(data: bytes, page: int) -> list[bytes]:
    return [data[start : start + page] for start in range(0, len(data), page)]


@folded("mode", MODES)
@folded("page", PAGES)
def test_a_double_buffer_needs_only_the_chunk_before(
    samples: dict[str, bytes], page: int, mode: dict[str, Any]
) -> None:
    for name, data in samples.items():
        for dictionary in (b"", samples["text"][500:9000]):
            chunks = pages_of(data[: 30 * page], page)
            chain = ChainCompressor(page, strategy="double_buffer", dictionary=dictionary, **mode)
            blocks = [chain.compress(memoryview(chunk)) for chunk in chunks]
            assert decode_with_previous_only(blocks, dictionary) == chunks, name


@folded("mode", MODES)
@folded("page", PAGES)
def test_a_ring_buffer_needs_64_kib(
    samples: dict[str, bytes], page: int, mode: dict[str, Any]
) -> None:
    for name, data in samples.items():
        for dictionary in (b"", samples["far"][:65_000]):
            chunks = pages_of(data[: 50 * page], page)
            chain = ChainCompressor(page, dictionary=dictionary, **mode)
            blocks = [chain.compress(memoryview(chunk)) for chunk in chunks]
            assert decode_with_history(blocks, dictionary) == chunks, name


@pytest.mark.parametrize("reach", [1, 300, 5000, 65_535])
def test_a_shorter_history_is_kept_to(samples: dict[str, bytes], reach: int) -> None:
    chunks = pages_of(samples["mixed"], 1500)
    chain = ChainCompressor(1500, history_bytes=reach)
    blocks = [chain.compress(memoryview(chunk)) for chunk in chunks]
    assert decode_with_history(blocks, b"", reach) == chunks


def test_history_pays(samples: dict[str, bytes]) -> None:
    """The point of it all: repetitions across blocks vanish, as far back as the strategy reaches."""
    unit = random.Random(1).randbytes(1000)
    chunks = [unit] * 50
    sizes = {}
    for strategy in ("double_buffer", "ring_buffer"):
        chain = ChainCompressor(1000, strategy=strategy)
        sizes[strategy] = [len(chain.compress(memoryview(chunk))) for chunk in chunks]
        assert sizes[strategy][0] > 1000
        assert max(sizes[strategy][1:]) < 30
    far = [unit, bytes(1000), unit]
    for strategy, smaller in (("double_buffer", False), ("ring_buffer", True)):
        chain = ChainCompressor(1000, strategy=strategy)
        last = [len(chain.compress(memoryview(chunk))) for chunk in far][-1]
        assert (last < 30) is smaller


@pytest.mark.parametrize("strategy", ["double_buffer", "ring_buffer"])
@pytest.mark.parametrize("page", [1000, 8192, 20_000, 65_000])
def test_the_dictionary_serves_the_first_block(strategy: str, page: int) -> None:
    # Incompressible: LZ4's own search would skip over most of it, loading it does not.
    dictionary = random.Random(2).randbytes(page)
    chain = ChainCompressor(page, strategy=strategy, dictionary=dictionary)
    assert len(chain.compress(memoryview(dictionary))) < page // 20 + 40


def test_short_and_empty_chunks_hide_what_a_double_buffer_overwrote(
    samples: dict[str, bytes],
) -> None:
    text = samples["text"]
    for page in (1000, 20_000, 65_536, 100_000):
        chunks = [
            text[:page],
            text[:90],
            text[:page],
            b"",
            text[:page],
            b"",
            b"",
            text[:7],
            text[:page],
        ]
        for mode in (MODES[0], MODES[4]):
            chain = ChainCompressor(page, strategy="double_buffer", **mode)
            blocks = [chain.compress(memoryview(chunk)) for chunk in chunks]
            assert decode_with_previous_only(blocks, b"") == chunks


def test_an_empty_chunk_leaves_a_ring_buffer_alone(samples: dict[str, bytes]) -> None:
    chain = ChainCompressor(1000)
    first = chain.compress(memoryview(samples["random"][:1000]))
    assert chain.compress(memoryview(b"")) == b"\x01\x00\x00\x00\x00"
    assert len(chain.compress(memoryview(samples["random"][:1000]))) < 40 < len(first)


@pytest.mark.parametrize("size", [1, 12, 15, 269, 270, 5000])
def test_incompressible_blocks_are_plain_literals(
    samples: dict[str, bytes], reference: Reference, size: int
) -> None:
    chunk = samples["random"][:size]
    block = ChainCompressor(8192).compress(memoryview(chunk))
    assert reference(block[4:], b"") == chunk
    assert len(block) - 4 <= size + size // 255 + 2


@pytest.mark.parametrize("width", [0, 1, 2, 4])
def test_size_fields(width: int) -> None:
    for chunk in (b"A" * 200, bytes(range(200))):
        block = ChainCompressor(200, store_comp_size=width).compress(memoryview(chunk))
        if width:
            assert int.from_bytes(block[:width], "little") == len(block) - width
        assert lz4.block.decompress(block[width:], uncompressed_size=200) == chunk


@pytest.mark.parametrize("page", [limit for limit, _ in FRAME_CLASSES] + [5_000_000])
@pytest.mark.parametrize("strategy", ["double_buffer", "ring_buffer"])
def test_one_block_per_chunk_at_every_class_of_the_frame(page: int, strategy: str) -> None:
    chunk = random.Random(3).randbytes(1000) * (page // 1000 + 1)
    for size in (page - 1, page):
        chain = ChainCompressor(page, strategy=strategy)
        for _ in range(2):
            block = chain.compress(memoryview(chunk[:size]))
            assert int.from_bytes(block[:4], "little") == len(block) - 4
        assert len(block) < size // 200 + 1100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"strategy": "triple"},
            "Invalid strategy argument: triple. Must be one of: double_buffer",
        ),
        ({"mode": "slow"}, "Invalid mode argument: slow. Must be one of: default, fast, high_co"),
        ({"store_comp_size": 3}, "Invalid store_comp_size"),
        ({"history_bytes": 0}, "history_bytes 0 is not in 1..65536"),
        ({"history_bytes": 65_537}, "history_bytes 65537"),
        ({"page_bytes": 0x7E000001}, "Invalid buffer_size argument: 2113929217."),
        ({"page_bytes": -1}, "Invalid buffer_size argument: -1."),
    ],
)
def test_arguments_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        ChainCompressor(**{"page_bytes": 100, **options})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("page", "width"), [(240, 1), (65_536, 2), (65_265, 2)])
def test_a_page_that_may_not_fit_its_size_field(page: int, width: int) -> None:
    with pytest.raises(LZ4StreamError, match="Inconsistent buffer_size/store_comp_size values"):
        ChainCompressor(page, store_comp_size=width)
    ChainCompressor(239 if width == 1 else 65_264, store_comp_size=width)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(max_size=300) | st.sampled_from([b"abcd" * 70, bytes(290)]), max_size=20),
    st.sampled_from(["double_buffer", "ring_buffer"]),
    st.sampled_from(MODES),
    st.binary(max_size=50),
)
def test_any_chunks_any_mode(
    reference: Reference,
    chunks: list[bytes],
    strategy: str,
    mode: dict[str, Any],
    dictionary: bytes,
) -> None:
    chain = ChainCompressor(300, strategy=strategy, dictionary=dictionary, **mode)
    history = dictionary
    for chunk in chunks:
        block = chain.compress(memoryview(chunk))
        assert reference(block[4:], history) == chunk
        history = chunk if strategy == "double_buffer" else history + chunk


STRATEGIES = ["double_buffer", "ring_buffer"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("dictionary", [False, True])
@pytest.mark.parametrize("page", [500, 8192, 65_536, 300_000, 5 << 20])
def test_the_callers_buffer_may_change_at_once(
    samples: dict[str, bytes], strategy: str, mode: dict[str, Any], dictionary: bool, page: int
) -> None:
    """One buffer, filled anew for each chunk and wiped after it, as programs that read files do."""
    start = samples["text"][:20_000] if dictionary else b""
    if page > 1 << 20 and mode not in MODES[:2]:
        return  # pages above a frame's largest class: one mode of each kind is enough
    # As many pages as the rebuilt way takes before a frame does, and a few more; or two of the largest.
    data = (samples["mixed"] * (1 + 3 * page // len(samples["mixed"])))[: max(3 * page, 20 * 500)]
    for copy in (bytearray, memoryview):
        chain = ChainCompressor(page, strategy=strategy, dictionary=start, **mode)
        buffer = bytearray(page)
        blocks, chunks = [], pages_of(data, page)
        for chunk in chunks:
            buffer[: len(chunk)] = chunk
            view = memoryview(copy(buffer) if copy is bytearray else buffer)[: len(chunk)]
            blocks.append(chain.compress(view))
            view.obj[:] = b"\xee" * page  # type: ignore[index]  # a bytearray in both cases
        history = start
        for block, chunk in zip(blocks, chunks, strict=True):
            received = lz4.block.decompress(
                block[4:], uncompressed_size=page, dict=history[-65_536:]
            )
            assert received == chunk
            history = chunk if strategy == "double_buffer" else (history + chunk)[-65_536:]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_parts_of_bytes_and_of_other_buffers_give_the_same(
    samples: dict[str, bytes], strategy: str
) -> None:
    data = samples["text"][:60_000]
    results = []
    for source in (data, bytearray(data), memoryview(data)):
        chain = ChainCompressor(2000, strategy=strategy, dictionary=data[500:3000])
        view = memoryview(source)
        results.append([chain.compress(view[i : i + 2000]) for i in range(0, len(data), 2000)])
    assert [len(b"".join(r)) for r in results] == [len(b"".join(results[0]))] * 3
