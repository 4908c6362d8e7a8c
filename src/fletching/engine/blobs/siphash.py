"""SipHash-2-4 with 128 bits of output, over many short messages of one length at once.

The keyed MAC of blob references. It was made as a MAC for short messages and consists of additions,
rotations and xors of 64-bit words only, so that numpy computes it for a whole column of references
in some hundred vector operations: 0.21 microseconds each, where a keyed BLAKE2b called once per row
takes 0.77.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["KEY_BYTES", "MAC_BYTES", "mac", "macs"]

KEY_BYTES = 16
MAC_BYTES = 16

_MASK = (1 << 64) - 1
# "somepseudorandomlygeneratedbytes", and what tells the 128-bit variant apart.
_INITIAL = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
_WIDE = 0xEE

_Words: TypeAlias = npt.NDArray[np.uint64]


def mac(key: bytes, message: bytes) -> bytes:
    """The MAC of one message of any length; about 30 microseconds."""
    length = len(message)
    padded = message + bytes(7 - length % 8) + bytes([length & 0xFF])
    k0, k1 = (int.from_bytes(key[i : i + 8], "little") for i in (0, 8))
    v0, v1, v2, v3 = k0 ^ _INITIAL[0], k1 ^ _INITIAL[1] ^ _WIDE, k0 ^ _INITIAL[2], k1 ^ _INITIAL[3]
    for start in range(0, len(padded), 8):
        word = int.from_bytes(padded[start : start + 8], "little")
        v3 ^= word
        for _ in range(2):
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0 ^= word
    v2 ^= _WIDE
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    low = v0 ^ v1 ^ v2 ^ v3
    v1 ^= 0xDD
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return low.to_bytes(8, "little") + (v0 ^ v1 ^ v2 ^ v3).to_bytes(8, "little")


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _MASK


def _round(v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
    v0 = (v0 + v1) & _MASK
    v2 = (v2 + v3) & _MASK
    v1 = _rotated(v1, 13) ^ v0
    v3 = _rotated(v3, 16) ^ v2
    v0 = _rotated(v0, 32)
    v2 = (v2 + v1) & _MASK
    v0 = (v0 + v3) & _MASK
    v1 = _rotated(v1, 17) ^ v2
    v3 = _rotated(v3, 21) ^ v0
    v2 = _rotated(v2, 32)
    return v0, v1, v2, v3


def macs(key: bytes, messages: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The MACs of ``messages``, one per row, as rows of 16 bytes.

    Copies the messages once, transposed: each step works on one word of all of them.
    """
    count, length = messages.shape
    padded = np.zeros((count, length + 8 - length % 8), np.uint8)
    padded[:, :length] = messages
    padded[:, -1] = length & 0xFF
    words = np.ascontiguousarray(padded.view("<u8").T).astype(np.uint64, copy=False)
    k0, k1 = (np.uint64(int.from_bytes(key[i : i + 8], "little")) for i in (0, 8))
    initial = [np.uint64(word) for word in _INITIAL]
    state = _Vectors(
        np.full(count, k0 ^ initial[0], np.uint64),
        np.full(count, k1 ^ initial[1] ^ np.uint64(_WIDE), np.uint64),
        np.full(count, k0 ^ initial[2], np.uint64),
        np.full(count, k1 ^ initial[3], np.uint64),
    )
    for word in words:
        state.v3 ^= word
        state.rounds(2)
        state.v0 ^= word
    state.v2 ^= np.uint64(_WIDE)
    state.rounds(4)
    out = np.empty((count, 2), "<u8")
    out[:, 0] = state.folded()
    state.v1 ^= np.uint64(0xDD)
    state.rounds(4)
    out[:, 1] = state.folded()
    return out.view(np.uint8).reshape(count, MAC_BYTES)


class _Vectors:
    """The four state words of every message; changed in place, with one vector of scratch."""

    def __init__(self, v0: _Words, v1: _Words, v2: _Words, v3: _Words) -> None:
        self.v0, self.v1, self.v2, self.v3 = v0, v1, v2, v3
        self._scratch = np.empty_like(v0)

    def _rotate(self, words: _Words, bits: int) -> None:
        np.right_shift(words, np.uint64(64 - bits), out=self._scratch)
        np.left_shift(words, np.uint64(bits), out=words)
        words |= self._scratch

    def rounds(self, count: int) -> None:
        for _ in range(count):
            self.v0 += self.v1
            self.v2 += self.v3
            self._rotate(self.v1, 13)
            self.v1 ^= self.v0
            self._rotate(self.v3, 16)
            self.v3 ^= self.v2
            self._rotate(self.v0, 32)
            self.v2 += self.v1
            self.v0 += self.v3
            self._rotate(self.v1, 17)
            self.v1 ^= self.v2
            self._rotate(self.v3, 21)
            self.v3 ^= self.v0
            self._rotate(self.v2, 32)

    def folded(self) -> _Words:
        return self.v0 ^ self.v1 ^ self.v2 ^ self.v3
