"""The states of an HTTP/1.1 connection: all transitions, timers and the rule for reuse are here.

One request is in work at a time. What a client sends behind it waits, unparsed, until its reply is done,
so that one state says all there is to know of a connection; docs/operations.md shows the table, which is
made from this one.
"""

from __future__ import annotations

import dataclasses
import enum

from fletching.errors import IllegalTransitionError

__all__ = ["TIMERS", "TRANSITIONS", "Event", "Reuse", "State", "Timer", "next_state", "state_table"]


class State(enum.Enum):
    """States of a connection."""

    # Members are compared by identity; an enum's own hash costs a Python call per look at a table.
    __hash__ = object.__hash__

    IDLE = "idle"
    """Nothing is asked."""
    HEAD = "head"
    """A request's first bytes are there."""
    BODY = "body"
    """A request is answered while its body still comes."""
    REPLY = "reply"
    """A request is there whole; its reply is not complete."""
    DISCARD = "discard"
    """The reply is complete and the rest of the request's body is swallowed."""
    LINGER = "linger"
    """We or the client have ended; what still comes is dropped, and what was written is still sent, so
    that no reset overtakes the last reply."""
    CLOSED = "closed"


class Event(enum.Enum):
    """What can happen to a connection."""

    __hash__ = object.__hash__

    BYTES = "first bytes"
    REQUEST = "whole request"
    HEAD_OF_BODY = "head of a body"
    BODY_END = "end of the body"
    REPLY_END = "end of the reply"
    END = "client's end"
    """The client has shut its side (a half-close, or all of it)."""
    SHUT = "shut"
    """We end: a refusal, a timer, a reply that is the last."""
    LOST = "lost"
    """The transport is gone."""


_S, _E = State, Event

TRANSITIONS = {
    (_S.IDLE, _E.BYTES): _S.HEAD,
    (_S.IDLE, _E.END): _S.LINGER,
    (_S.IDLE, _E.SHUT): _S.LINGER,
    (_S.HEAD, _E.REQUEST): _S.REPLY,
    (_S.HEAD, _E.HEAD_OF_BODY): _S.BODY,
    (_S.HEAD, _E.END): _S.LINGER,
    (_S.HEAD, _E.SHUT): _S.LINGER,
    (_S.BODY, _E.BODY_END): _S.REPLY,
    (_S.BODY, _E.REPLY_END): _S.DISCARD,
    (_S.BODY, _E.END): _S.LINGER,  # the body can never be whole
    (_S.BODY, _E.SHUT): _S.LINGER,
    (_S.REPLY, _E.REPLY_END): _S.IDLE,
    (_S.REPLY, _E.END): _S.REPLY,  # who has asked is answered
    (_S.REPLY, _E.SHUT): _S.LINGER,
    (_S.DISCARD, _E.BODY_END): _S.IDLE,
    (_S.DISCARD, _E.END): _S.LINGER,
    (_S.DISCARD, _E.SHUT): _S.LINGER,
    (_S.LINGER, _E.END): _S.LINGER,
    (_S.LINGER, _E.SHUT): _S.LINGER,
    **{(state, _E.LOST): _S.CLOSED for state in State},
}


@dataclasses.dataclass(frozen=True, slots=True)
class Timer:
    """How long a connection may stay in a state.

    Attributes:
        setting: of the service, in seconds.
        draining: the setting that holds instead while the service stops; None if there is none.
        then: what happens, in words.
        progress: the timer begins again with each such piece of progress; None if it never does.
    """

    setting: str
    then: str
    draining: str | None = None
    progress: str | None = None


TIMERS = {
    _S.IDLE: Timer("keep_alive_seconds", "shut", draining="drain_idle_seconds"),
    _S.HEAD: Timer("head_timeout_seconds", "408, shut", draining="drain_idle_seconds"),
    _S.BODY: Timer("body_idle_seconds", "408, shut", progress="body_progress_bytes received"),
    _S.REPLY: Timer("reader_stall_seconds", "cut", progress="a byte taken by the client"),
    _S.DISCARD: Timer(
        "body_idle_seconds",
        "shut",
        draining="drain_idle_seconds",
        progress="body_progress_bytes received",
    ),
    _S.LINGER: Timer(
        "linger_seconds", "cut, or after `reader_stall_seconds` while bytes of ours are untaken"
    ),
}
"""Of every state but the last. BODY runs while the service waits for the client, REPLY while the client
leaves bytes untaken: nobody is cut for what the service itself takes long to do."""


def next_state(state: State, event: Event) -> State:
    """The state after an event.

    Raises:
        IllegalTransitionError: the event cannot happen in this state: a bug of ours.
    """
    after = TRANSITIONS.get((state, event))
    if after is None:
        raise IllegalTransitionError(
            f"a connection in state {state.value} cannot meet {event.value}"
        )
    return after


@dataclasses.dataclass(slots=True)
class Reuse:
    """The rule for another request on the same connection: all of these must hold.

    Attributes:
        wanted: the client speaks HTTP/1.1 and has not said ``Connection: close``.
        delimited: the reply's end shows by itself, not by the connection's.
        discardable: what is left of the request's body is little enough to be swallowed.
        draining: the service is stopping.
    """

    wanted: bool
    delimited: bool = True
    discardable: bool = True
    draining: bool = False

    def __bool__(self) -> bool:
        return self.wanted and self.delimited and self.discardable and not self.draining


def state_table() -> str:
    """The transitions and timers as the Markdown of docs/operations.md."""
    lines = [
        "| state | what it is | leads to | timer, and what follows |",
        "|---|---|---|---|",
    ]
    words = {
        _S.IDLE: "nothing is asked",
        _S.HEAD: "a request's first bytes are there",
        _S.BODY: "a request is answered while its body still comes",
        _S.REPLY: "the request is there whole, its reply is not complete",
        _S.DISCARD: "the reply is complete, the rest of the body is swallowed",
        _S.LINGER: "one side has ended: what still comes is dropped, what was written is sent",
    }
    for state, timer in TIMERS.items():
        steps = [
            f"{after.value} ({event.value})"
            for (before, event), after in TRANSITIONS.items()
            if before is state and event is not Event.LOST and after is not before
        ]
        clock = f"`{timer.setting}`"
        if timer.draining:
            clock += f" (stopping: `{timer.draining}`)"
        if timer.progress:
            clock += f", begun again by {timer.progress}"
        lines.append(
            f"| {state.value} | {words[state]} | {', '.join(steps)} | {clock}: {timer.then} |"
        )
    return "\n".join(lines)
