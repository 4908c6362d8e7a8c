from __future__ import annotations

import array
from collections.abc import Callable

import pytest
from tests.folding import folded

from fletching.errors import SizeOverflowError, UsageError
from fletching.lz4stream import block_format
from fletching.lz4stream.block_format import LZ4_MAX_INPUT_SIZE


@pytest.mark.parametrize(
    ("length", "prefix"),
    [
        (0, "00"),
        (1, "10"),
        (14, "e0"),
        (15, "f000"),
        (16, "f001"),
        (269, "f0fe"),
        (270, "f0ff00"),
        (525, "f0ffff00"),
    ],
)
def test_literal_prefixes(
    length: int, prefix: str, reference: Callable[[bytes, bytes], bytes]
) -> None:
    assert block_format.literal_prefix(length).hex() == prefix
    content = bytes(range(256)) * 3
    block = block_format.literal_prefix(length) + content[:length]
    assert reference(block, b"") == content[:length]


@pytest.mark.parametrize(
    ("length", "bound"),
    [(0, 16), (1, 17), (255, 272), (65_536, 65_809), (LZ4_MAX_INPUT_SIZE + 1, 0), (-1, 0)],
)
def test_compress_bound(length: int, bound: int) -> None:
    assert block_format.compress_bound(length) == bound


@pytest.mark.parametrize("length", [0, 1, 239, 240, 255, 8192, 65_536, 1 << 20, LZ4_MAX_INPUT_SIZE])
def test_input_bound_is_never_below_what_made_the_block(length: int) -> None:
    back = block_format.input_bound(block_format.compress_bound(length))
    assert length <= back <= length + 1


def test_input_bound_of_what_no_input_makes_is_zero() -> None:
    longest = block_format.compress_bound(LZ4_MAX_INPUT_SIZE)
    assert block_format.input_bound(longest + 1) == 0
    assert block_format.input_bound(longest) > 0


@folded("buffer_size", [*range(1, 1200), 1 << 20, LZ4_MAX_INPUT_SIZE, 2**32 - 1])
def test_longest_block_inverts_input_bound(buffer_size: int) -> None:
    longest = block_format.longest_block(buffer_size)
    assert 0 < block_format.input_bound(longest) <= buffer_size
    assert not 0 < block_format.input_bound(longest + 1) <= buffer_size
    assert block_format.longest_block(0) == -1


@pytest.mark.parametrize(
    ("width", "limit"), [(1, 255), (2, 65_535), (4, 2**32 - 1), (0, 2**32 - 1)]
)
def test_stored_size_limit(width: int, limit: int) -> None:
    assert block_format.stored_size_limit(width) == limit
    block_format.check_store_comp_size(width)


@pytest.mark.parametrize("width", [-1, 3, 5, 8])
def test_other_widths_are_refused(width: int) -> None:
    with pytest.raises(UsageError, match="valid values: 0, 1, 2 or 4"):
        block_format.check_store_comp_size(width)


def test_views_are_flat_and_borrow() -> None:
    numbers = array.array("i", [1, 2, 3])
    view = block_format.as_bytes_view(numbers)
    assert (view.format, view.nbytes, len(view)) == ("B", 12, 12)
    numbers[0] = 7
    assert view[0] == 7
    grid = memoryview(bytes(12)).cast("B", (3, 4))
    assert len(block_format.as_bytes_view(grid)) == 12
    assert len(block_format.as_bytes_view(array.array("i"))) == 0


@pytest.mark.parametrize("wrong", ["text", 7, None, memoryview(b"123456")[::2]])
def test_what_is_no_flat_buffer_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError):
        block_format.as_bytes_view(wrong)  # type: ignore[arg-type]  # the mistake under test


def test_dictionaries_keep_their_reachable_end() -> None:
    long = bytes(1000) + bytes(range(256)) * 256
    assert block_format.as_dictionary(long) == long[-65_536:]
    assert block_format.as_dictionary("é") == b"\xc3\xa9"
    assert block_format.as_dictionary(None) == block_format.as_dictionary("") == b""
    mutable = bytearray(b"abc")
    kept = block_format.as_dictionary(mutable)
    mutable[0] = 0
    assert kept == b"abc"


def test_a_dictionary_above_two_gib_overflows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_format, "_DICTIONARY_LIMIT", 10)
    with pytest.raises(OverflowError, match="Dictionary too large for LZ4 API") as caught:
        block_format.as_dictionary(bytes(11))
    assert isinstance(caught.value, SizeOverflowError)
    assert caught.value.limit == 10
