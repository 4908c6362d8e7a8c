"""CRC32C block framing: every 4096 bytes of payload are followed by their CRC32C.

======  ==========  =====================================================================
offset  bytes       meaning
======  ==========  =====================================================================
0       1..4096     payload; every block but the last holds exactly 4096 bytes
..      4           CRC32C of this block's payload alone, unsigned, little-endian
======  ==========  =====================================================================

CRC32C is the Castagnoli CRC: reflected, initial value and final xor FFFFFFFF; ``123456789`` gives
E3069283. An empty payload is zero bytes on the wire. The framing has no end mark: it cannot see a
cut at a block boundary, so the layer inside must. PyODPS's ``odps.maxstorage`` reads and writes it.

There is nothing to limit: both directions hold less than one block between calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from crc32c import crc32c
from typing_extensions import Buffer

from fletching.errors import (
    ChecksumMismatchError,
    MalformedFrameError,
    TruncatedStreamError,
    WireError,
)
from fletching.wire.push_decoder import PushDecoder

__all__ = [
    "BLOCK_BYTES",
    "BLOCK_PAYLOAD_BYTES",
    "CHECKSUM_BYTES",
    "Decoder",
    "Encoder",
    "framed_length",
]

LAYER = "crc32c_blocks"

BLOCK_PAYLOAD_BYTES = 4096
CHECKSUM_BYTES = 4
BLOCK_BYTES = BLOCK_PAYLOAD_BYTES + CHECKSUM_BYTES

# Blocks handled by one vectorised step. 64 blocks are 256 KiB: large enough that the step's fixed
# cost vanishes, small enough that payload read for the checksum is still cached for the copy.
_GROUP_BLOCKS = 64

_Bytes: TypeAlias = npt.NDArray[np.uint8]


def framed_length(payload_bytes: int) -> int:
    """Bytes on the wire for a payload of this length."""
    return payload_bytes + CHECKSUM_BYTES * -(-payload_bytes // BLOCK_PAYLOAD_BYTES)


def _checksums(payloads: _Bytes) -> npt.NDArray[np.uint32]:
    """CRC32C of each row. `map` over the rows keeps the loop in C: 12 GB/s where a loop over views gave 11."""
    return np.fromiter(map(crc32c, payloads), np.uint32, len(payloads))


class Encoder:
    """Adds checksums. Copies payload once: the blocks must stand between their checksums."""

    def __init__(self) -> None:
        self._carry = bytearray()

    def encode(self, data: Buffer) -> list[memoryview]:
        """Returns the blocks completed by ``data``; keeps a copy of what does not fill a block."""
        view = memoryview(data).cast("B")
        framed: list[memoryview] = []
        if self._carry:
            missing = BLOCK_PAYLOAD_BYTES - len(self._carry)
            self._carry += view[:missing]
            view = view[missing:]
            if len(self._carry) < BLOCK_PAYLOAD_BYTES:
                return framed
            framed.append(_framed_block(self._carry))
            self._carry = bytearray()
        blocks = len(view) // BLOCK_PAYLOAD_BYTES
        if blocks:
            rows = np.frombuffer(view, np.uint8, blocks * BLOCK_PAYLOAD_BYTES)
            rows = rows.reshape(blocks, BLOCK_PAYLOAD_BYTES)
            framed.extend(
                _framed_blocks(rows[start : start + _GROUP_BLOCKS])
                for start in range(0, blocks, _GROUP_BLOCKS)
            )
        self._carry += view[blocks * BLOCK_PAYLOAD_BYTES :]
        return framed

    def finish(self) -> list[memoryview]:
        """Returns the last, short block, if there is one; the encoder can then start a new stream."""
        carry, self._carry = self._carry, bytearray()
        return [_framed_block(carry)] if carry else []


def _framed_block(payload: bytearray) -> memoryview:
    return memoryview(bytes(payload) + crc32c(payload).to_bytes(CHECKSUM_BYTES, "little"))


def _framed_blocks(payloads: _Bytes) -> memoryview:
    framed = np.empty((len(payloads), BLOCK_BYTES), np.uint8)
    framed[:, :BLOCK_PAYLOAD_BYTES] = payloads
    stored = _checksums(payloads).astype("<u4").view(np.uint8)
    framed[:, BLOCK_PAYLOAD_BYTES:] = stored.reshape(-1, CHECKSUM_BYTES)
    return framed.reshape(-1).data


class Decoder(PushDecoder[memoryview]):
    """Verifies and strips checksums.

    Each event is a ``memoryview`` of verified payload in memory of its own, so it may be kept. It
    is a copy because payload must become contiguous again. Of a damaged block, ``offset`` of the error
    is where it starts on the wire, and of the decoder how many framed bytes were verified.
    """

    _layer = LAYER

    def __init__(self) -> None:
        super().__init__()
        self._carry = bytearray()

    def _events(self) -> Iterator[memoryview]:
        while self._chunks:
            chunk = self._chunks.popleft()
            if self._carry:
                missing = BLOCK_BYTES - len(self._carry)
                self._carry += chunk[:missing]
                chunk = chunk[missing:]
                if len(self._carry) < BLOCK_BYTES:
                    continue
                block, self._carry = self._carry, bytearray()
                yield self._verified_block(block)
            blocks = len(chunk) // BLOCK_BYTES
            self._carry += chunk[blocks * BLOCK_BYTES :]
            if blocks:
                rows = np.frombuffer(chunk, np.uint8, blocks * BLOCK_BYTES)
                yield from self._verified_blocks(rows.reshape(blocks, BLOCK_BYTES))

    def _last_events(self) -> Iterator[memoryview]:
        block, self._carry = self._carry, bytearray()
        if not block:
            return
        if len(block) < CHECKSUM_BYTES:
            raise TruncatedStreamError(
                f"the last block has {len(block)} bytes, less than its checksum",
                layer=LAYER,
                offset=self._offset,
                expected=CHECKSUM_BYTES + 1,
                actual=len(block),
            )
        if len(block) == CHECKSUM_BYTES:
            raise MalformedFrameError(
                "the last block is a checksum without payload",
                layer=LAYER,
                offset=self._offset,
                expected=CHECKSUM_BYTES + 1,
                actual=CHECKSUM_BYTES,
            )
        yield self._verified_block(block)

    def _verified_block(self, block: bytearray) -> memoryview:
        view = memoryview(block)
        payload = view[:-CHECKSUM_BYTES]
        stored = int.from_bytes(view[-CHECKSUM_BYTES:], "little")
        computed = crc32c(payload)
        if computed != stored:
            raise self._mismatch(stored, computed)
        self._offset += len(block)
        return payload

    def _verified_blocks(self, rows: _Bytes) -> Iterator[memoryview]:
        for start in range(0, len(rows), _GROUP_BLOCKS):
            group = rows[start : start + _GROUP_BLOCKS]
            payloads = group[:, :BLOCK_PAYLOAD_BYTES]
            stored = np.ascontiguousarray(group[:, BLOCK_PAYLOAD_BYTES:]).view("<u4").reshape(-1)
            computed = _checksums(payloads)
            bad = np.flatnonzero(stored != computed)
            good = int(bad[0]) if len(bad) else len(group)
            if good:
                self._offset += good * BLOCK_BYTES
                yield payloads[:good].copy().reshape(-1).data
            if len(bad):
                raise self._mismatch(int(stored[good]), int(computed[good]))

    def _mismatch(self, stored: int, computed: int) -> WireError:
        return ChecksumMismatchError(
            f"block at {self._offset}: CRC32C of its payload is {computed:08x},"
            f" the block says {stored:08x}",
            layer=LAYER,
            offset=self._offset,
            expected=stored,
            actual=computed,
        )
