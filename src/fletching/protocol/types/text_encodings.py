"""Texts as they are read: in two or four bytes a character, and files that are looked at meanwhile."""

from __future__ import annotations

import abc
import codecs
from typing import IO

__all__ = ["HEAD_BYTES", "WatchedFile", "wide_encoding"]

HEAD_BYTES = 4096
"""How much of the start of a text is looked at."""

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BY_WIDTH = ((4, "utf-32-le", "utf-32-be"), (2, "utf-16-le", "utf-16-be"))


def wide_encoding(head: bytes) -> str | None:
    """The encoding, by Python's name, of a text that is surely UTF-16 or UTF-32; else None.

    Told by a byte order mark or, without one, by where its zeros are: of the line ends, separators and digits
    of a table every character has them at the same end. Other texts have hardly any.

    Args:
        head: the first bytes, up to `HEAD_BYTES` of them.
    """
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    for width, little, big in _BY_WIDTH:
        count = len(head) // width
        if not count:
            continue
        units = head[: count * width]
        zeros = [units[index::width].count(0) for index in range(width)]
        for name, value in ((little, 0), (big, width - 1)):
            empty = all(3 * zeros[index] >= count for index in range(width) if index != value)
            if empty and 20 * zeros[value] <= count:
                return name
    return None


class WatchedFile(abc.ABC):
    """A binary file that looks at its bytes as they are read; it stays its owner's."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    @property
    def closed(self) -> bool:
        """Whether nothing can be read."""
        return self._file.closed

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    @abc.abstractmethod
    def read(self, size: int = -1) -> bytes:
        """The next bytes, as a file's ``read``, if nothing speaks against them."""
