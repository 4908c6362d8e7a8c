"""Checksums of streams: MD5 in a thread of its own, and CRC32C of a whole from those of its parts."""

from __future__ import annotations

import functools
import hashlib
import queue
import threading
from typing import Final

from typing_extensions import Buffer

__all__ = ["RunningMd5", "crc32c_combine"]

# Castagnoli's polynomial (RFC 3720, appendix B.4) with the coefficient of x^0 in the top bit.
_POLYNOMIAL: Final = 0x82F63B78
_ONE: Final = 1 << 31
_X: Final = 1 << 30

# Below this many bytes a thread costs more than it saves.
_INLINE_BYTES = 512 << 10
# Buffers that may wait for the thread: enough that it never waits for the next one.
_QUEUED_BUFFERS = 4


class RunningMd5:
    """MD5 of the buffers given to ``update``, in order; for one caller at a time.

    Buffers must stay unchanged until they are hashed, and are referred to until then; at most four
    wait. The thread starts with the first large stream and ends with ``hexdigest`` or ``close``.
    """

    def __init__(self) -> None:
        self._hash = hashlib.md5(usedforsecurity=False)
        self._seen = 0
        self._queue: queue.Queue[Buffer | None] = queue.Queue(_QUEUED_BUFFERS)
        self._thread: threading.Thread | None = None

    def update(self, data: Buffer) -> None:
        """Adds bytes; waits while too many buffers wait."""
        self._seen += memoryview(data).nbytes
        if self._thread is None:
            if self._seen <= _INLINE_BYTES:
                self._hash.update(data)
                return
            self._thread = threading.Thread(target=self._run, name="fletching-md5", daemon=True)
            self._thread.start()
        self._queue.put(data)

    def hexdigest(self) -> str:
        """The digest of everything, in lower-case hexadecimal; waits for the thread."""
        self.close()
        return self._hash.hexdigest()

    def close(self) -> None:
        """Ends the thread; idempotent."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            self._hash.update(data)
            del data


def crc32c_combine(first: int, second: int, second_length: int) -> int:
    """CRC32C of two byte strings joined, without looking at them again.

    A CRC is a remainder of polynomials over GF(2): the first string's is moved up by the length of
    the second, multiplied by ``x^(8 * length)``, and the second's is added. A multiplication takes 4
    microseconds: one for a length seen lately, else one more per bit set in it. Below a quarter
    of a mebibyte it is cheaper to go over the second string again.

    Args:
        first: CRC32C of the first string.
        second: CRC32C of the second.
        second_length: of the second, in bytes.
    """
    return _times(_shift(second_length), first) ^ second


@functools.lru_cache(256)  # a number each
def _shift(length: int) -> int:
    """The polynomial ``x^(8 * length)``: the product of powers of two of ``x``."""
    result = _ONE
    for exponent in range(length.bit_length()):
        if length >> exponent & 1:
            result = _times(_power(exponent + 3), result)
    return result


@functools.cache
def _power(exponent: int) -> int:
    """The polynomial ``x^(2^exponent)``, by squaring; of a few dozen exponents each is kept."""
    if exponent == 0:
        return _X
    half = _power(exponent - 1)
    return _times(half, half)


def _times(a: int, b: int) -> int:
    """Product of two polynomials modulo Castagnoli's."""
    product = 0
    mark = _ONE
    while mark:
        if a & mark:
            product ^= b
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
        mark >>= 1
    return product
