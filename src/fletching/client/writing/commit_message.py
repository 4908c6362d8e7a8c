"""What an attempt of a task has written, as a value that goes from the worker to whoever commits."""

from __future__ import annotations

import dataclasses

__all__ = ["CommitMessage"]


@dataclasses.dataclass(frozen=True, slots=True)
class CommitMessage:
    """A closed stream version of a write session; pickles, and is equal to its like.

    Engines repeat tasks, run them twice, and lose them. Each attempt writes a stream version of its
    own, durable but not visible, and hands this on; ``session.commit(messages)`` makes visible exactly
    what the messages name. What other attempts wrote goes with the session.

    Attributes:
        session_id: the write session.
        stream_id: the stream, of one task.
        stream_version: the attempt.
        rows: how many were written.
    """

    session_id: str
    stream_id: str
    stream_version: int
    rows: int
