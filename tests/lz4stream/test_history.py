from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fletching.lz4stream.history import RecentOutput, Window

KIB = 1024


@given(st.integers(1, 40), st.lists(st.binary(max_size=100), max_size=30))
def test_a_window_is_the_end_of_what_was_appended(limit: int, chunks: list[bytes]) -> None:
    window = Window(limit)
    for count, chunk in enumerate(chunks, 1):
        window.append(chunk)
        assert bytes(window.view()) == b"".join(chunks[:count])[-limit:]


def test_recent_output_is_the_last_64_kib_whatever_the_pieces() -> None:
    everything = b"".join(number.to_bytes(4, "big") for number in range(200_000))
    for size in (1000, 40_000, 65_536, 65_537, 300_000):
        recent = RecentOutput()
        for start in range(0, len(everything), size):
            recent.append(everything[start : start + size])
            received = bytes(recent.joined())
            wanted = everything[: start + size][-64 * KIB :]
            assert received == wanted


def test_recent_output_begins_with_the_dictionary() -> None:
    recent = RecentOutput(b"dictionary")
    assert recent.joined() == b"dictionary"
    recent.append(b"-more")
    recent.append(b"")
    assert recent.joined() == b"dictionary-more"


def test_recent_output_lets_go_of_what_is_out_of_reach() -> None:
    recent = RecentOutput()
    for _ in range(10_000):
        recent.append(bytes(1000))
    assert sum(map(len, recent._chunks)) < 6 * 64 * KIB


def test_a_copy_does_not_follow() -> None:
    recent = RecentOutput(b"one")
    twin = recent.copy()
    recent.append(b"two")
    assert (twin.joined(), recent.joined()) == (b"one", b"onetwo")


def test_one_large_piece_is_not_copied() -> None:
    chunk = bytes(100_000)
    recent = RecentOutput()
    recent.append(chunk)
    view = recent.joined()
    assert isinstance(view, memoryview)
    assert view.obj is chunk
