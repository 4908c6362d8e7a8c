"""Finding Arrow data among other bytes."""

from __future__ import annotations

import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching import ipc
from fletching.ipc.limits import DEFAULT_LIMITS
from fletching.ipc.part_search import _WINDOW_BYTES, find_part, offsets_of


def stream() -> bytes:
    sink = io.BytesIO()
    ipc.write_stream(pa.table({"a": [1, 2, 3]}), sink)
    return sink.getvalue()


STREAM = stream()


@given(st.binary(max_size=300), st.sampled_from([b"\xff\xff\xff\xff", b"ab", b"aa"]))
def test_places_are_all_places(data: bytes, needle: bytes) -> None:
    wanted = [at for at in range(len(data)) if data.startswith(needle, at)]
    assert list(offsets_of(memoryview(data), (needle,), 0)) == wanted


@pytest.mark.parametrize("position", [_WINDOW_BYTES - 3, _WINDOW_BYTES - 1, _WINDOW_BYTES])
def test_a_place_across_two_windows_is_found_once(position: int) -> None:
    data = bytearray(2 * _WINDOW_BYTES)
    data[position : position + 4] = b"ARRO"
    assert list(offsets_of(memoryview(data), (b"ARRO",), 0)) == [position]


@pytest.mark.parametrize("before", [0, 1, 7, 1000])
def test_a_stream_is_found_behind_anything(before: int) -> None:
    data = memoryview(b"x" * before + STREAM)
    assert find_part(data, 0, DEFAULT_LIMITS) == before
    assert find_part(data, before, DEFAULT_LIMITS) == before


def test_what_only_looks_like_one_is_none() -> None:
    for data in (b"", b"\xff\xff\xff\xff" * 50, STREAM[:20], b"nothing of the kind"):
        assert find_part(memoryview(b"y" + data), 0, DEFAULT_LIMITS) is None
