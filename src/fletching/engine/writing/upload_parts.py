"""Block mode: blocks are streams with one write each, named by number and attempt."""

from __future__ import annotations

import dataclasses
import re

import msgspec

from fletching.catalog.write_stream_rows import WriteStreamRow
from fletching.errors import InvalidArgumentError
from fletching.protocol.messages.vocabulary import block_stream_id

__all__ = ["BlockMessage", "block_order"]

_STREAM = re.compile(r"block-([0-9]{1,18})-attempt-([0-9]{1,18})")


def block_order(stream: WriteStreamRow) -> tuple[int, str]:
    """Sorts streams by id, blocks by number."""
    match = _STREAM.fullmatch(stream.stream_id)
    return (int(match[1]) if match else -1, stream.stream_id)


class _Stats(msgspec.Struct, rename="pascal"):
    record_num: int


class _Wire(msgspec.Struct, rename="pascal"):
    session_id: str
    block_number: int
    attempt_number: int
    writer_stats: _Stats


@dataclasses.dataclass(frozen=True, slots=True)
class BlockMessage:
    """What a block's write hands its client for the commit: opaque to it, JSON for its checks."""

    session_id: str
    block_number: int
    attempt_number: int
    rows: int

    def format(self) -> str:
        """As the reply's ``CommitMessage``."""
        wire = _Wire(self.session_id, self.block_number, self.attempt_number, _Stats(self.rows))
        return msgspec.json.encode(wire).decode()

    @classmethod
    def parse(cls, text: str, session_id: str) -> BlockMessage:
        """Reads a message that came back with a commit.

        Raises:
            InvalidArgumentError: it is not one of this session.
        """
        try:
            wire = _WIRE.decode(text)
        except msgspec.MsgspecError as error:
            raise InvalidArgumentError(f"a commit message cannot be read: {error}") from error
        if wire.session_id != session_id:
            raise InvalidArgumentError("a commit message belongs to another session")
        return cls(
            wire.session_id, wire.block_number, wire.attempt_number, wire.writer_stats.record_num
        )

    @property
    def stream(self) -> tuple[str, int]:
        """Stream id and version under which the block is staged."""
        return block_stream_id(self.block_number, self.attempt_number), 1


# At import: see protocol/codec/codec_admin.py.
_WIRE = msgspec.json.Decoder(_Wire)
