"""Both directions with lz4.stream: every page size, size width, mode and dictionary."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from fletching import lz4stream

PAGES = [239, 1024, 4096, 8192, 20_000, 65_536, 100_000, 262_144, 1_048_576]
MODES: list[dict[str, Any]] = [
    {},
    {"mode": "fast"},
    {"mode": "fast", "acceleration": 8},
    {"mode": "high_compression", "compression_level": 1},
    {"mode": "high_compression"},
]
WIDTHS = [0, 1, 2, 4]
DICTIONARIES = ["", "text", b"\x00" * 5000, "own", "long"]


def dictionary_of(kind: str | bytes, data: bytes) -> str | bytes:
    if kind == "text":
        return data[:300].decode("latin-1")
    if kind == "own":
        return data[1000:9000]
    return data[-100_000:] if kind == "long" else kind


def fits(module: Any, page: int, width: int) -> bool:
    """Whether a page's worst case fits the size field; both sides must agree on that."""
    try:
        module.LZ4StreamCompressor("double_buffer", page, store_comp_size=width)
    except module.LZ4StreamError:
        return False
    return True


def pages_of(data: bytes, page: int) -> list[bytes]:
    return [data[start : start + page] for start in range(0, len(data), page)]


@pytest.mark.parametrize("corpus", ["text", "random", "zeros", "far", "mixed"])
@pytest.mark.parametrize("page", PAGES)
def test_both_directions(
    lz4_stream: ModuleType, corpora: dict[str, bytes], corpus: str, page: int
) -> None:
    data = corpora[corpus][: 40 * page + 123]
    for width in WIDTHS:
        assert fits(lz4_stream, page, width) == fits(lz4stream, page, width)
        if not fits(lz4stream, page, width):
            continue
        for mode in MODES:
            for kind in DICTIONARIES:
                dictionary = dictionary_of(kind, data)
                check(lz4_stream, data, page, width, mode, dictionary)


def check(
    theirs: Any, data: bytes, page: int, width: int, mode: dict[str, Any], dictionary: str | bytes
) -> None:
    common = {"store_comp_size": width, "dictionary": dictionary}
    chunks = pages_of(data, page)
    made = {}
    for name, module in (("theirs", theirs), ("ours", lz4stream)):
        with module.LZ4StreamCompressor("double_buffer", page, **mode, **common) as compressor:
            made[name] = [compressor.compress(chunk) for chunk in chunks]
    # What our iterator makes for a reader with two pages, theirs must read too.
    made["iterator"] = list(
        lz4stream.compress([data], page_bytes=page, strategy="double_buffer", **mode, **common)
    )
    for name, blocks in made.items():
        for module in (theirs, lz4stream):
            if name != "theirs" or module is lz4stream:
                with module.LZ4StreamDecompressor("double_buffer", page, **common) as decompressor:
                    received = [decompressor.decompress(block[width:]) for block in blocks]
                assert received == chunks, (name, module.__name__, page, width, mode)
        sizes = [len(block) for block in blocks] if width == 0 else None
        pieces = lz4stream.decompress(
            b"".join(blocks), store_comp_size=width, dictionary=dictionary, block_sizes=sizes
        )
        assert b"".join(pieces) == data, (name, page, width, mode)


@pytest.mark.parametrize("page", PAGES)
def test_ratio_is_within_one_percent(
    lz4_stream: ModuleType, corpora: dict[str, bytes], page: int
) -> None:
    for mode in MODES:
        for name, data in corpora.items():
            sizes = []
            for module in (lz4_stream, lz4stream):
                compressor = module.LZ4StreamCompressor("double_buffer", page, **mode)
                sizes.append(sum(len(compressor.compress(c)) for c in pages_of(data, page)))
            # A byte per block: of a page that shrinks to 30 bytes, that is three percent.
            allowed = sizes[0] * 1.01 + len(data) / page + 16
            assert sizes[1] <= allowed, (name, mode, sizes)


def test_short_and_empty_chunks_between_pages(lz4_stream: ModuleType) -> None:
    text = b"the quick brown fox jumps over the lazy dog " * 4000
    for page in (1000, 8192, 65_536):
        chunks = [text[:page], text[5:90], b"", text[:page], b"", b"", text[7:page], text[:1]]
        ours = lz4stream.LZ4StreamCompressor("double_buffer", page)
        reader = lz4_stream.LZ4StreamDecompressor("double_buffer", page)
        assert [reader.decompress(ours.compress(chunk)[4:]) for chunk in chunks] == chunks
        theirs = lz4_stream.LZ4StreamCompressor("double_buffer", page)
        blocks = [theirs.compress(chunk) for chunk in chunks]
        assert b"".join(lz4stream.decompress(blocks)) == b"".join(chunks)


# --- misuse: the same exception classes, and messages of the same form -------------------------


def misuses(module: Any) -> dict[str, tuple[type[BaseException], str]]:
    """What the module raises for each misuse."""
    compressor, decompressor = module.LZ4StreamCompressor, module.LZ4StreamDecompressor
    good = compressor("double_buffer", 128).compress(b"A" * 128)
    calls: dict[str, Any] = {
        "strategy c": lambda: compressor("foo", 1024),
        "strategy d": lambda: decompressor("foo", 1024),
        "mode": lambda: compressor("double_buffer", 1024, mode="foo"),
        "width c": lambda: compressor("double_buffer", 1024, store_comp_size=3),
        "width d": lambda: decompressor("double_buffer", 1024, store_comp_size=8),
        "page too large": lambda: compressor("double_buffer", module.LZ4_MAX_INPUT_SIZE + 1),
        "page too large for int": lambda: compressor("double_buffer", 2**32 - 1),
        "page above width 1": lambda: compressor("double_buffer", 256, store_comp_size=1),
        "page above width 2": lambda: compressor("double_buffer", 65_536, store_comp_size=2),
        "chunk too large": lambda: compressor("double_buffer", 8).compress(b"123456789"),
        "text c": lambda: compressor("double_buffer", 128).compress("x"),
        "text d": lambda: decompressor("double_buffer", 128).decompress("x"),
        "text get_block": lambda: decompressor("double_buffer", 128).get_block("x"),
        "block above width": lambda: decompressor(
            "double_buffer", 2**20, store_comp_size=1
        ).decompress(bytes(256)),
        "block above page": lambda: decompressor("double_buffer", 128).decompress(bytes(200)),
        "no page": lambda: decompressor("double_buffer", 0).decompress(b"\x00"),
        "empty block": lambda: decompressor("double_buffer", 128).decompress(b""),
        "corrupt": lambda: decompressor("double_buffer", 128).decompress(b"\x1f\x41\x05\x00"),
        "cut block": lambda: decompressor("double_buffer", 128).decompress(good[4:-2]),
        "no size field": lambda: decompressor("double_buffer", 128).get_block(b"\x01\x00"),
        "incomplete block": lambda: decompressor("double_buffer", 128).get_block(good[:-1]),
        "out of band": lambda: decompressor(
            "double_buffer", 128, store_comp_size=0
        ).get_block(good),
        "no buffer": lambda: compressor("double_buffer", 128).compress(7),
    }  # fmt: skip
    raised = {}
    for name, call in calls.items():
        try:
            call()
        except Exception as error:
            raised[name] = type(error), str(error)
    assert set(raised) == set(calls), set(calls) - set(raised)
    return raised


def test_misuse_raises_the_same(lz4_stream: ModuleType) -> None:
    theirs, ours = misuses(lz4_stream), misuses(lz4stream)
    for name, (error, text) in theirs.items():
        own, own_text = ours[name]
        if error is lz4_stream.LZ4StreamError:
            assert issubclass(own, lz4stream.LZ4StreamError), name
        else:
            assert issubclass(own, error), (name, own, error)
        if error is not TypeError:
            digits = str.maketrans("", "", "0123456789")
            assert own_text.translate(digits) == text.translate(digits), name


def test_results_have_the_same_types(lz4_stream: ModuleType) -> None:
    for module in (lz4_stream, lz4stream):
        for wanted in (bytes, bytearray):
            options = {"return_bytearray": wanted is bytearray}
            block = module.LZ4StreamCompressor("double_buffer", 64, **options).compress(b"x" * 64)
            reader = module.LZ4StreamDecompressor("double_buffer", 64, **options)
            assert type(block) is wanted
            assert type(reader.get_block(block)) is wanted
            assert type(reader.decompress(block[4:])) is wanted
