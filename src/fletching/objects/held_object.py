"""A small object that was fetched whole."""

from __future__ import annotations

__all__ = ["HeldObject"]


class HeldObject:
    """An object's bytes in memory. See ``StoredObject``."""

    def __init__(self, key: str, data: memoryview) -> None:
        self.key = key
        self.length = data.nbytes
        self._data = data

    def view(self, start: int, end: int) -> memoryview:
        """A part of the bytes."""
        return self._data[start:end]

    def read(self, start: int, end: int) -> memoryview:
        """The same: nothing can change them."""
        return self._data[start:end]

    def resident(self, start: int, end: int) -> bool:
        """Always."""
        del start, end
        return True

    def load(self, start: int, end: int) -> None:
        """Does nothing: they are here."""

    def close(self) -> None:
        """Holds nothing but memory."""
