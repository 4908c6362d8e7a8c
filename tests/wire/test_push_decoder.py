"""What all decoders that are fed do alike, shown by one of lines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fletching.errors import MalformedFrameError, TruncatedStreamError, WireError
from fletching.wire.push_decoder import PushDecoder


class Lines(PushDecoder[bytes]):
    """Lines of capital letters; the last one may lack its line end, and not be a dash."""

    _layer = "lines"

    def __init__(self) -> None:
        super().__init__()
        self._carry = b""

    def _events(self) -> Iterator[bytes]:
        while self._chunks or b"\n" in self._carry:
            if self._chunks:
                self._carry += self._chunks.popleft()
            while b"\n" in self._carry:
                line, _, self._carry = self._carry.partition(b"\n")
                if not line.isupper():
                    raise MalformedFrameError("no capitals", layer=self._layer)
                self._offset += len(line) + 1
                yield line

    def _last_events(self) -> Iterator[bytes]:
        if self._carry == b"-":
            raise TruncatedStreamError("ends at a dash", layer=self._layer, offset=self._offset)
        if self._carry:
            yield self._carry


@pytest.mark.parametrize("step", [1, 2, 100])
def test_parts_of_any_length_and_what_the_end_completes(step: int) -> None:
    decoder, lines, data = Lines(), list[bytes](), b"AB\nC\nD"
    for start in range(0, len(data), step):
        decoder.feed(bytearray(data[start : start + step]))
        lines += decoder.events()
    assert lines == [b"AB", b"C"]
    assert decoder.offset == 5
    decoder.finish()
    decoder.finish()  # once more changes nothing
    assert [*decoder.events(), *decoder.events()] == [b"D"]


def test_what_nobody_took_before_the_end_is_there_after_it() -> None:
    decoder = Lines()
    decoder.feed(b"AB\nC\nD")
    assert next(decoder.events()) == b"AB"
    decoder.finish()
    first = decoder.events()
    assert next(first) == b"C"
    assert list(decoder.events()) == [b"D"]


def test_an_error_says_where_it_is_and_stays() -> None:
    decoder = Lines()
    decoder.feed(b"AB\nc\nD\n")
    events = decoder.events()
    assert next(events) == b"AB"
    with pytest.raises(MalformedFrameError) as raised:
        next(events)
    assert raised.value.offset == 3
    for again in (lambda: next(decoder.events()), decoder.finish):
        with pytest.raises(WireError) as repeated:
            again()
        assert repeated.value is raised.value


def test_an_end_inside_a_part_is_an_error_that_stays() -> None:
    decoder = Lines()
    decoder.feed(b"AB\n-")
    with pytest.raises(TruncatedStreamError):
        decoder.finish()
    with pytest.raises(TruncatedStreamError):
        list(decoder.events())


def test_nothing_is_fed_after_the_end() -> None:
    decoder = Lines()
    decoder.finish()
    with pytest.raises(MalformedFrameError, match="after the end") as raised:
        decoder.feed(b"A\n")
    assert raised.value.layer == "lines"
