"""The transition tables: complete, as documented, and refused in words otherwise."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from fletching.engine.writing.states import (
    SESSION_TRANSITIONS,
    STREAM_TRANSITIONS,
    UPLOAD_TRANSITIONS,
    SessionEvent,
    SessionState,
    StreamEvent,
    StreamState,
    UploadEvent,
    UploadLife,
    UploadState,
    next_session_state,
    next_stream_state,
)
from fletching.errors import ConflictError, ExpiredSessionError, UsageError
from fletching.protocol.messages.vocabulary import SessionStatus

DOCS = Path(__file__).parents[3] / "docs" / "durability.md"


@pytest.mark.parametrize(
    ("state", "event"), list(itertools.product(SessionState, SessionEvent)), ids=str
)
def test_every_session_state_meets_every_event(state: SessionState, event: SessionEvent) -> None:
    expected = SESSION_TRANSITIONS.get((state, event))
    if expected is not None:
        assert next_session_state(state, event, "ws") is expected
        return
    kind = ConflictError if state is SessionState.COMMITTED else ExpiredSessionError
    with pytest.raises(kind, match="write session ws") as caught:
        next_session_state(state, event, "ws")
    assert caught.value.http_status == (409 if kind is ConflictError else 404)


@pytest.mark.parametrize(
    ("state", "event"), list(itertools.product(StreamState, StreamEvent)), ids=str
)
def test_every_stream_state_meets_every_event(state: StreamState, event: StreamEvent) -> None:
    if (state, event) == (StreamState.CLOSED, StreamEvent.WRITE):
        with pytest.raises(ConflictError, match="closed"):
            next_stream_state(state, event, "s")
    else:
        assert next_stream_state(state, event, "s") is STREAM_TRANSITIONS[state, event]


def test_nothing_leaves_a_final_state() -> None:
    for (before, _), after in SESSION_TRANSITIONS.items():
        if before is not SessionState.NORMAL:
            assert after is before


def test_there_is_no_word_for_aborted() -> None:
    assert [state.status for state in SessionState] == [
        SessionStatus.NORMAL, SessionStatus.COMMITTED, SessionStatus.EXPIRED, SessionStatus.EXPIRED,
    ]  # fmt: skip


def test_the_documented_table_is_the_code() -> None:
    """The rows of docs/durability.md: state | event | what follows."""
    text = DOCS.read_text()
    rows = re.findall(
        r"^\| (session|stream|upload) ([\w ]+?) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE
    )
    documented = {(kind, state, event.strip()): after.strip() for kind, state, event, after in rows}
    expected = {}
    for state, event in itertools.product(SessionState, SessionEvent):
        after = SESSION_TRANSITIONS.get((state, event))
        refusal = "409" if state is SessionState.COMMITTED else "404"
        expected["session", state.value, event.value] = after.value if after else refusal
    for stream_state, stream_event in itertools.product(StreamState, StreamEvent):
        stream_after = STREAM_TRANSITIONS.get((stream_state, stream_event))
        key = ("stream", stream_state.value, stream_event.value)
        expected[key] = stream_after.value if stream_after else "409"
    for upload_state, upload_event in itertools.product(UploadState, UploadEvent):
        upload_after = UPLOAD_TRANSITIONS.get((upload_state, upload_event))
        key = ("upload", upload_state.value, upload_event.value)
        expected[key] = upload_after.value if upload_after else "refused"
    if documented != expected:
        lines = [
            f"| {kind} {state} | {event} | {after} |"
            for (kind, state, event), after in expected.items()
        ]
        pytest.fail("docs/durability.md should have these rows:\n" + "\n".join(lines))


WAYS_TO = {
    UploadState.OPEN: [],
    UploadState.FINISHING: [UploadEvent.FINISH],
    UploadState.DONE: [UploadEvent.FINISH, UploadEvent.COMMITTED],
    UploadState.ABORTED: [UploadEvent.ABORT],
}


@pytest.mark.parametrize(
    ("state", "event"), list(itertools.product(UploadState, UploadEvent)), ids=str
)
def test_every_upload_state_meets_every_event(state: UploadState, event: UploadEvent) -> None:
    life = UploadLife()
    for step in WAYS_TO[state]:
        life.step(step)
    assert life.state is state
    expected = UPLOAD_TRANSITIONS.get((state, event))
    assert life.allows(event) is (expected is not None)
    if expected is None:
        with pytest.raises(UsageError, match=state.value):
            life.step(event)
        assert life.state is state
    else:
        assert life.step(event) is expected
    assert life.ended is (life.state in {UploadState.DONE, UploadState.ABORTED})


def test_an_upload_that_is_being_finished_is_not_aborted() -> None:
    assert (UploadState.FINISHING, UploadEvent.ABORT) not in UPLOAD_TRANSITIONS
    for (before, _), after in UPLOAD_TRANSITIONS.items():
        if before in {UploadState.DONE, UploadState.ABORTED}:
            assert after is before
