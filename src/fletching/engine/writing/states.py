"""The states of write sessions, write streams and uploads: all transitions are in the tables below.

A transition that is not in a table is refused. A session's state is what the catalog has, except that
one whose time is over counts as EXPIRED before retention has written that down. An upload, which is
the body of one request on its way into objects, has its state in memory: it dies with its process.
"""

from __future__ import annotations

import enum
import threading

from fletching.errors import ConflictError, ExpiredSessionError, ServiceError, UsageError
from fletching.protocol.messages.vocabulary import SessionStatus

__all__ = [
    "SESSION_TRANSITIONS",
    "STREAM_TRANSITIONS",
    "UPLOAD_TRANSITIONS",
    "SessionEvent",
    "SessionState",
    "StreamEvent",
    "StreamState",
    "UploadEvent",
    "UploadLife",
    "UploadState",
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
        """The protocol's word; it has none for an aborted session, which is gone."""
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


class UploadState(enum.Enum):
    """States of one request's body on its way into objects and the catalog."""

    OPEN = "open"
    FINISHING = "being finished"
    """Its objects are made durable and the catalog's transaction runs: only its outcome counts."""
    DONE = "finished"
    ABORTED = "aborted"


class UploadEvent(enum.Enum):
    """What can happen to an upload."""

    ACCEPT = "take more of it"
    FINISH = "finish it"
    COMMITTED = "find it committed"
    FAILED = "find it failed"
    ABORT = "abort it"


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


_U, _V = UploadState, UploadEvent

UPLOAD_TRANSITIONS = {
    (_U.OPEN, _V.ACCEPT): _U.OPEN,
    (_U.OPEN, _V.FINISH): _U.FINISHING,
    (_U.OPEN, _V.FAILED): _U.ABORTED,
    (_U.OPEN, _V.ABORT): _U.ABORTED,
    # Nobody aborts an upload that is being finished: its transaction says how it ends.
    (_U.FINISHING, _V.COMMITTED): _U.DONE,
    (_U.FINISHING, _V.FAILED): _U.ABORTED,
    (_U.DONE, _V.FINISH): _U.DONE,  # the same answer again
    (_U.ABORTED, _V.FAILED): _U.ABORTED,
    (_U.ABORTED, _V.ABORT): _U.ABORTED,
}


class UploadLife:
    """The state of one upload. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = UploadState.OPEN

    @property
    def state(self) -> UploadState:
        """The state now; another thread may change it."""
        return self._state

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do: everything is in the catalog, or nothing is anywhere."""
        return self._state in {UploadState.DONE, UploadState.ABORTED}

    def step(self, event: UploadEvent) -> UploadState:
        """Goes on to the state after an event, and returns it.

        Raises:
            UsageError: the event is not for the state.
        """
        with self._lock:
            after = UPLOAD_TRANSITIONS.get((self._state, event))
            if after is None:
                raise UsageError(f"the upload is {self._state.value}: cannot {event.value}")
            self._state = after
            return after

    def allows(self, event: UploadEvent) -> bool:
        """Whether the event is for the state now."""
        return (self._state, event) in UPLOAD_TRANSITIONS


def next_session_state(state: SessionState, event: SessionEvent, session_id: str) -> SessionState:
    """The state after an event.

    Raises:
        ConflictError: the session is committed and the event is not for that state.
        ExpiredSessionError: the session was aborted or has expired.
    """
    result = SESSION_TRANSITIONS.get((state, event))
    if result is not None:
        return result
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
    result = STREAM_TRANSITIONS.get((state, event))
    if result is None:
        raise ConflictError(f"write stream {name} is {state.value.lower()}; cannot {event.value}")
    return result
