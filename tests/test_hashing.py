from __future__ import annotations

import hashlib
import threading

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from fletching.hashing import RunningMd5, crc32c_combine


@pytest.mark.parametrize("piece", [1, 1000, 600_000, 3_000_000])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_the_digest_is_md5s(piece: int, count: int) -> None:
    running, plain = RunningMd5(), hashlib.md5()
    for number in range(count):
        data = bytes([number]) * piece
        running.update(data)
        plain.update(data)
    assert running.hexdigest() == plain.hexdigest()
    assert running.hexdigest() == plain.hexdigest()


def test_small_streams_need_no_thread_and_threads_end() -> None:
    before = threading.active_count()
    small = RunningMd5()
    small.update(bytes(100_000))
    assert threading.active_count() <= before
    large = RunningMd5()
    large.update(bytes(1_000_000))
    large.close()
    large.close()
    assert threading.active_count() <= before


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_checksums_combine_as_their_strings_do(first: bytes, second: bytes) -> None:
    joined = crc32c_combine(crc32c(first), crc32c(second), len(second))
    assert joined == crc32c(first + second)


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 1 << 20, (1 << 24) + 8])
def test_checksums_of_long_strings_combine(length: int) -> None:
    second = bytes(range(251)) * (length // 251 + 1)
    second = second[:length]
    assert crc32c_combine(crc32c(b"first"), crc32c(second), length) == crc32c(b"first" + second)
    assert crc32c_combine(0, crc32c(second), length) == crc32c(second)
