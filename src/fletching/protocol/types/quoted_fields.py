"""CSV that ends inside a quoted field: a file that was cut, which no reader of CSV tells from a whole one.

What counts as a quoted field is what pyarrow's reader makes of it: a quote opens one only where a
field begins, two quotes in one are a quote, and quotes in other fields are characters like any other.
"""

from __future__ import annotations

import codecs
from typing import IO

import numpy as np

from fletching.errors import UsageError
from fletching.protocol.types.text_encodings import WatchedFile

__all__ = ["QuotesWatched", "has_plain_quotes"]

_QUOTE = 34
_SHOWN_BYTES = 20


def has_plain_quotes(encoding: str) -> bool:
    """Whether quotes and line ends of an encoding are the bytes of ASCII, and no others hold these."""
    if encoding in {"utf8", "utf-8"}:
        return True
    ascii_bytes = bytes(range(128))
    try:
        plain = ascii_bytes.decode(encoding) == ascii_bytes.decode("ascii")
        return plain and len(bytes(range(128, 256)).decode(encoding, "replace")) == 128
    except (UnicodeError, LookupError):
        return False


class QuotesWatched(WatchedFile):
    """CSV whose quotes are counted as it is read; its end is refused where a quote is still open."""

    def __init__(self, file: IO[bytes], name: str, delimiter: str) -> None:
        """Reads from ``file``, which stays its owner's; ``name`` is for the error."""
        super().__init__(file)
        self._name = name
        self._starts = np.zeros(256, bool)  # what a field begins behind
        self._starts[[ord(delimiter), 10, 13]] = True
        self._before = 10  # the byte before the next one: a text begins like a line
        self._closed = False  # whether that one was a quote that closed, or is the first of two
        self._inside = False
        self._begun = False
        self._lines = 0
        self._opened_at = (0, b"")  # the line on which the field that is open begins, and how

    def read(self, size: int = -1) -> bytes:
        """The next bytes, as a file's ``read``.

        Raises:
            UsageError: these are all, and a quoted field has no end.
        """
        data = self._file.read(size)
        if data:
            self._look(data)
        elif self._inside and size:
            line, text = self._opened_at
            raise UsageError(
                f"{self._name} ends inside the quoted field that begins on line {line} with "
                f"{text.decode('utf-8', 'ignore')}: a closing quote is expected; was it cut?"
            )
        return data

    def _look(self, data: bytes) -> None:
        samples = np.frombuffer(data, np.uint8)
        positions = np.flatnonzero(samples == _QUOTE)
        if len(positions):
            self._pass(data, samples, positions)
        self._lines += data.count(b"\n")
        self._before, self._begun = data[-1], True
        self._closed = self._closed and data[-1] == _QUOTE

    def _pass(self, data: bytes, samples: np.ndarray, positions: np.ndarray) -> None:
        """Follows the quotes: of all, or of those from the first on that is an ordinary character."""
        before = samples[positions - 1]
        adjacent = before == _QUOTE
        starts = self._starts[before]
        if not positions[0]:
            adjacent[0], starts[0] = self._closed, self._starts[self._before]
        elif not self._begun and positions[0] == 3 and data.startswith(codecs.BOM_UTF8):
            starts[0] = True
        # While every one that finds no field open begins one, or follows one that closed, they alternate.
        opening = slice(1 if self._inside else 0, None, 2)
        if (starts | adjacent)[opening].all():
            opened = positions[opening][starts[opening]]
            self._inside ^= bool(len(positions) & 1)
            self._closed = not self._inside
            last = int(opened[-1]) if len(opened) else -1
        else:
            last = self._one_by_one(positions.tolist(), starts.tolist())
        # A quote at the end may turn out to be the first of two.
        if last >= 0 and (self._inside or data[-1] == _QUOTE):
            text = data[last : last + _SHOWN_BYTES].splitlines()[0]
            self._opened_at = (self._lines + data.count(b"\n", 0, last) + 1, text)

    def _one_by_one(self, positions: list[int], starts: list[bool]) -> int:
        """The same for quotes of any kind; returns where the last field was opened, or -1."""
        inside, last = self._inside, -1
        closed_at = -1 if self._closed else -2
        for position, begins in zip(positions, starts, strict=True):
            if inside:
                inside, closed_at = False, position
            elif closed_at == position - 1:
                inside = True
            elif begins:
                inside, last = True, position
        self._inside, self._closed = inside, closed_at == positions[-1]
        return last
