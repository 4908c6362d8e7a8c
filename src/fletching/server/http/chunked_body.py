"""The chunked transfer coding of a request's body (RFC 9112, 7.1), taken apart as it comes.

::

    size in hexadecimal [;extension] CR LF   data   CR LF   ...   0 CR LF   [trailer CR LF]... CR LF
"""

from __future__ import annotations

import re

from fletching.errors import InvalidParameterError

__all__ = ["ChunkedDecoder"]

MAX_LINE_BYTES = 4096
"""A size with its extensions, or one trailer; nobody sends a tenth of it."""

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\x00]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\x00]*")


class ChunkedDecoder:
    """Gives a body's data back and says where it ends.

    Attributes:
        ended: the last line was seen; ``feed`` takes nothing more.
    """

    def __init__(self, max_trailer_bytes: int) -> None:
        self.ended = False
        self._line = bytearray()
        self._left = 0  # of the chunk's data
        self._state = "size"
        self._trailer_bytes = 0
        self._max_trailer_bytes = max_trailer_bytes

    def feed(self, data: memoryview) -> tuple[list[memoryview], int]:
        """Takes received bytes.

        Returns:
            The data in them, as views of them, and how many bytes were taken: fewer than there are only
            at the end of the body.

        Raises:
            InvalidParameterError: this is not the chunked coding.
        """
        chunks: list[memoryview] = []
        at = 0
        while at < len(data) and not self.ended:
            if self._left:
                piece = data[at : at + self._left]
                chunks.append(piece)
                self._left -= len(piece)
                at += len(piece)
                continue
            line, at = self._line_of(data, at)
            if line is not None:
                self._take(line)
        return chunks, at

    def _line_of(self, data: memoryview, at: int) -> tuple[bytes | None, int]:
        """A whole line without its end, if it is there, and where what follows begins."""
        room = MAX_LINE_BYTES - len(self._line)
        # Lines are short: what is looked at is copied.
        part = bytes(data[at : at + room])
        end = part.find(b"\n")
        if end < 0:
            self._line += part
            if len(self._line) >= MAX_LINE_BYTES:
                raise InvalidParameterError("a line of the chunked body is too long")
            return None, at + len(part)
        line = bytes(self._line) + part[:end]
        self._line.clear()
        if not line.endswith(b"\r"):
            raise InvalidParameterError("a line of the chunked body does not end in CR LF")
        return line[:-1], at + end + 1

    def _take(self, line: bytes) -> None:
        if self._state == "size":
            match = _SIZE.fullmatch(line)
            if match is None:
                raise InvalidParameterError("a chunk of the body does not begin with its size")
            self._left = int(match[1], 16)
            self._state = "data end" if self._left else "trailer"
        elif self._state == "data end":
            if line:
                raise InvalidParameterError("a chunk of the body is longer than its size")
            self._state = "size"
        elif not line:
            self.ended = True
        else:
            self._trailer_bytes += len(line) + 2
            if self._trailer_bytes > self._max_trailer_bytes:
                raise InvalidParameterError("the trailers are too long", http_status=431)
            if not _TRAILER.fullmatch(line):
                raise InvalidParameterError("a trailer of the chunked body is not a field")
