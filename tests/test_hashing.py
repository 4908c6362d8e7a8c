from __future__ import annotations

import hashlib
import threading

import pytest

from fletching.hashing import RunningMd5


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
