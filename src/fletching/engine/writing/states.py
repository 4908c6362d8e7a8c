"""The states of write sessions and write streams: all transitions are in the two tables below.

A transition that is not in a table is refused with the error that ``_REFUSALS`` has for the state.
A session's state is what the catalog has, except that one whose time is over counts as EXPIRED
before retention has written that down.
"""

from __future__ import annotations

import enum

from fletching.errors import ConflictError, ExpiredSessionError, ServiceError
from fletching.protocol.messages.vocabulary import SessionStatus

__all__ = [
    "SESSION_TRANSITIONS",
    "STREAM_TRANSITIONS",
    "SessionEvent",
    "SessionState",
    "StreamEvent",
    "StreamState",
    "next_session_state",
    "next_stream_state",
]


class SessionState(enum.StrEnum):
    """States of a write session."""

    NORMAL = "NORMAL"
    COMMITTED = "COMMITTED"
    ABORTED = "ABORTED"
    EXPIRED = "EXPIRED"

    @property
    def status(self) -> SessionStatus:
        """The protocol's word; it has none for an aborted session, which is gone (PROTOCOL 4.1)."""
        return {
            SessionState.NORMAL: SessionStatus.NORMAL,
            SessionState.COMMITTED: SessionStatus.COMMITTED,
        }.get(self, SessionStatus.EXPIRED)


class SessionEvent(enum.Enum):
    """What can happen to a write session."""

    LOOK = "look at it"
    WRITE = "create, write or close a stream"
    COMMIT = "commit"
    ABORT = "abort"
    EXPIRE = "expire"


class StreamState(enum.StrEnum):
    """States of one attempt (stream id, stream version)."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"


class StreamEvent(enum.Enum):
    """What can happen to one attempt."""

    CREATE = "create it again"
    WRITE = "write to it"
    CLOSE = "close it"


_S, _E = SessionState, SessionEvent

SESSION_TRANSITIONS = {
    (_S.NORMAL, _E.LOOK): _S.NORMAL,
    (_S.NORMAL, _E.WRITE): _S.NORMAL,
    (_S.NORMAL, _E.COMMIT): _S.COMMITTED,
    (_S.NORMAL, _E.ABORT): _S.ABORTED,
    (_S.NORMAL, _E.EXPIRE): _S.EXPIRED,
    (_S.COMMITTED, _E.LOOK): _S.COMMITTED,
    (_S.COMMITTED, _E.COMMIT): _S.COMMITTED,  # a retry: the same answer again
    (_S.ABORTED, _E.ABORT): _S.ABORTED,
    (_S.EXPIRED, _E.ABORT): _S.EXPIRED,
    (_S.EXPIRED, _E.EXPIRE): _S.EXPIRED,
}

STREAM_TRANSITIONS = {
    # A fresh attempt, unless it is exactly-once: that one goes on where it was.
    (StreamState.OPEN, StreamEvent.CREATE): StreamState.OPEN,
    (StreamState.OPEN, StreamEvent.WRITE): StreamState.OPEN,
    (StreamState.OPEN, StreamEvent.CLOSE): StreamState.CLOSED,
    (StreamState.CLOSED, StreamEvent.CREATE): StreamState.OPEN,
    (StreamState.CLOSED, StreamEvent.CLOSE): StreamState.CLOSED,  # a retry
}


def next_session_state(state: SessionState, event: SessionEvent, session_id: str) -> SessionState:
    """The state after an event.

    Raises:
        ConflictError: the session is committed and the event is not for that state.
        ExpiredSessionError: the session was aborted or has expired.
    """
    found = SESSION_TRANSITIONS.get((state, event))
    if found is not None:
        return found
    refusal: ServiceError
    if state is SessionState.COMMITTED:
        refusal = ConflictError(
            f"write session {session_id} is committed; it is too late to {event.value}"
        )
    else:
        why = "was aborted" if state is SessionState.ABORTED else "has expired"
        refusal = ExpiredSessionError(f"write session {session_id} {why}; open a new one")
    raise refusal


def next_stream_state(state: StreamState, event: StreamEvent, name: str) -> StreamState:
    """The state after an event.

    Raises:
        ConflictError: the attempt is closed and cannot be written to.
    """
    found = STREAM_TRANSITIONS.get((state, event))
    if found is None:
        raise ConflictError(f"write stream {name} is {state.value.lower()}; cannot {event.value}")
    return found
