"""The table of states: complete, timed, reachable, and as documented."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from tests.folding import folded

from fletching.errors import IllegalTransitionError
from fletching.server.http.connection_states import (
    TIMERS,
    TRANSITIONS,
    Event,
    Reuse,
    State,
    next_state,
    state_table,
)
from fletching.server.server_settings import ServerSettings

DOCS = Path(__file__).parents[3] / "docs" / "operations.md"


@folded("state, event", list(itertools.product(State, Event)))
def test_every_state_meets_every_event(state: State, event: Event) -> None:
    expected = TRANSITIONS.get((state, event))
    if expected is None:
        with pytest.raises(IllegalTransitionError, match=state.value):
            next_state(state, event)
    else:
        assert next_state(state, event) is expected


def test_every_state_has_a_timer_and_a_way_to_the_end() -> None:
    settings = ServerSettings()
    for state in State:
        assert TRANSITIONS[state, Event.LOST] is State.CLOSED
        if state is State.CLOSED:
            assert state not in TIMERS
            continue
        timer = TIMERS[state]
        for name in (timer.setting, timer.draining):
            assert name is None or getattr(settings, name) > 0
        # A client may end and the service may shut at any time.
        assert (state, Event.END) in TRANSITIONS
        assert TRANSITIONS[state, Event.SHUT] is State.LINGER
    reached = {State.IDLE}
    for _ in State:
        reached |= {after for (before, _), after in TRANSITIONS.items() if before in reached}
    assert reached == set(State)


def test_only_a_client_that_has_asked_is_kept_after_its_end() -> None:
    kept = {state for state in State if TRANSITIONS.get((state, Event.END)) is state}
    assert kept == {State.REPLY, State.LINGER}


@pytest.mark.parametrize("flags", list(itertools.product([False, True], repeat=4)), ids=str)
def test_the_rule_for_reuse_is_a_joint_one(flags: tuple[bool, bool, bool, bool]) -> None:
    wanted, delimited, discardable, draining = flags
    rule = Reuse(wanted, delimited, discardable, draining)
    assert bool(rule) is (flags == (True, True, True, False))


def test_the_documented_table_is_the_code() -> None:
    assert state_table() in DOCS.read_text(), f"docs/operations.md should have:\n{state_table()}"
