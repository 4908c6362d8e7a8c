from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.client.call_options import CallOptions, RetryPolicy
from fletching.client.cancellation import Cancellation
from fletching.client.retry import Effect, RetrySequence, Timing, effect_of
from fletching.errors import (
    ConnectError,
    ConnectionBrokenError,
    FletchingError,
    InternalServerError,
    InvalidArgumentError,
    MalformedFrameError,
    NoPermissionError,
    OperationCancelledError,
    ReadTimeoutError,
    RowOffsetError,
    ServiceError,
    ServiceUnavailableError,
    StorageFullError,
    ThrottledError,
    TruncatedStreamError,
    UntrustedPeerError,
    UsageError,
)

CASES: list[tuple[FletchingError, Effect]] = [
    (ConnectError("x"), Effect.NONE),
    (UntrustedPeerError("x"), Effect.REFUSED),
    (OperationCancelledError("x"), Effect.REFUSED),
    # A fault of the server that no repetition cures, as its class says.
    (StorageFullError("x", http_status=500), Effect.REFUSED),
    (ThrottledError("x"), Effect.NONE),
    (ServiceError("x", http_status=429), Effect.NONE),
    (ServiceError("x", http_status=408), Effect.UNKNOWN),
    (InternalServerError("x"), Effect.UNKNOWN),
    (ServiceUnavailableError("x"), Effect.UNKNOWN),
    (ServiceError("x", http_status=502), Effect.UNKNOWN),
    (ServiceError("x", http_status=504), Effect.UNKNOWN),
    (ServiceError("x", http_status=599), Effect.UNKNOWN),
    (ConnectionBrokenError("x"), Effect.UNKNOWN),
    (ReadTimeoutError("x"), Effect.UNKNOWN),
    (TruncatedStreamError("x"), Effect.UNKNOWN),
    (ServiceError("x", http_status=501), Effect.REFUSED),
    (ServiceError("x", http_status=505), Effect.REFUSED),
    (StorageFullError("x"), Effect.REFUSED),
    (InvalidArgumentError("x"), Effect.REFUSED),
    (NoPermissionError("x"), Effect.REFUSED),
    (RowOffsetError("x"), Effect.REFUSED),
    (MalformedFrameError("x"), Effect.REFUSED),
    (UsageError("x"), Effect.REFUSED),
]


@pytest.mark.parametrize(("error", "effect"), CASES, ids=lambda x: str(x)[:40])
def test_an_error_tells_whether_its_request_was_done(error: FletchingError, effect: Effect) -> None:
    assert effect_of(error) is effect


def failing(errors: list[Exception]) -> Callable[[RetrySequence], str]:
    """Raises each error once, then returns."""
    remaining = list(errors)

    def operation(attempt: RetrySequence) -> str:
        if remaining:
            raise remaining.pop(0)
        return f"{attempt.trace_id} {attempt.index}"

    return operation


POLICY = RetryPolicy(budget_seconds=100, first_delay_seconds=1, longest_delay_seconds=8)


def sequence(timing: Timing, policy: RetryPolicy = POLICY, **words: Any) -> RetrySequence:
    return RetrySequence(CallOptions(retry=policy), timing, **words)


def test_the_trace_id_stays_and_the_index_counts(clock: Any) -> None:
    errors: list[Exception] = [ConnectError("x"), ThrottledError("x"), InternalServerError("x")]
    result = sequence(clock.timing).run(failing(errors), repeatable=True)
    assert result == "trace-1 3"


def test_a_given_trace_id_is_kept(clock: Any) -> None:
    result = sequence(clock.timing, trace_id="mine").run(
        failing([ConnectError("x")]), repeatable=True
    )
    assert result == "mine 1"


def test_waits_double_up_to_the_longest(clock: Any) -> None:
    errors: list[Exception] = [ConnectError("x")] * 6
    sequence(clock.timing).run(failing(errors), repeatable=True)
    assert clock.slept == [1, 2, 4, 8, 8, 8]


def test_jitter_only_shortens(clock: Any) -> None:
    assert POLICY.delay_seconds(2, random=1.0) == pytest.approx(2.0)
    assert POLICY.delay_seconds(2, random=0.0) == 4.0


@given(st.integers(0, 5000), st.floats(0, 1))
def test_no_wait_is_negative_or_above_the_longest(attempt: int, random: float) -> None:
    assert 0 <= POLICY.delay_seconds(attempt, random) <= 8


def test_the_service_decides_a_longer_wait(clock: Any) -> None:
    errors: list[Exception] = [ThrottledError("x", retry_after_seconds=30)]
    sequence(clock.timing).run(failing(errors), repeatable=True)
    assert clock.slept == [30]


def test_a_wait_beyond_the_budget_is_not_begun(clock: Any) -> None:
    error = ThrottledError("x", retry_after_seconds=101)
    with pytest.raises(ThrottledError) as caught:
        sequence(clock.timing).run(failing([error]), repeatable=True)
    assert caught.value is error
    assert clock.slept == []


def test_the_budget_is_time_from_the_first_failure(clock: Any) -> None:
    calls = 0

    def operation(attempt: RetrySequence) -> None:
        nonlocal calls
        calls += 1
        clock.now += 5 if calls > 1 else 1_000_000  # the first attempt's own time does not count
        raise ConnectError("x")

    with pytest.raises(ConnectError):
        sequence(clock.timing).run(operation, repeatable=True)
    # waits 1 2 4 8 8 ..., each attempt taking 5 s, within 100 s of the first failure
    assert clock.slept == [1, 2, 4, 8, 8, 8, 8, 8, 8]


def test_no_budget_means_one_attempt(clock: Any) -> None:
    policy = RetryPolicy(budget_seconds=0, first_delay_seconds=0)
    with pytest.raises(ConnectError):
        sequence(clock.timing, policy).run(failing([ConnectError("x")]), repeatable=True)


@pytest.mark.parametrize("error", [InternalServerError("x"), ConnectionBrokenError("x")])
def test_what_may_be_done_already_is_not_repeated_unless_it_may_be(
    clock: Any, error: Exception
) -> None:
    with pytest.raises(type(error)):
        sequence(clock.timing).run(failing([error]), repeatable=False)
    assert clock.slept == []


@pytest.mark.parametrize("error", [ConnectError("x"), ThrottledError("x")])
def test_what_was_not_done_is_always_repeated(clock: Any, error: Exception) -> None:
    assert sequence(clock.timing).run(failing([error]), repeatable=False)


def test_a_refusal_is_raised_at_once(clock: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        sequence(clock.timing).run(failing([InvalidArgumentError("x")]), repeatable=True)
    assert clock.slept == []


def test_progress_gives_the_whole_budget_again(clock: Any) -> None:
    attempts = sequence(clock.timing)
    for _ in range(50):
        for _ in range(3):
            attempts.wait(ConnectionBrokenError("x"), repeatable=True)
        attempts.progressed()
    assert clock.slept == [1, 2, 4] * 50
    assert attempts.index == 150


@pytest.mark.parametrize(
    "fields",
    [
        {"budget_seconds": -1.0},
        {"first_delay_seconds": -1.0},
        {"longest_delay_seconds": -0.1},
        {"jitter": 1.5},
        {"jitter": -0.5},
    ],
)
def test_meaningless_policies_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        RetryPolicy(**fields)


def test_a_fault_of_the_server_is_not_repeated_for_the_whole_budget(clock: Any) -> None:
    errors: list[Exception] = [InternalServerError("x")] * 3
    assert sequence(clock.timing).run(failing(errors), repeatable=True)
    clock.slept.clear()
    with pytest.raises(InternalServerError):
        sequence(clock.timing).run(failing([InternalServerError("x")] * 4), repeatable=True)
    assert clock.slept == [1, 2, 4]


def test_progress_forgives_faults_of_the_server(clock: Any) -> None:
    attempts = sequence(clock.timing)
    for _ in range(9):
        attempts.wait(InternalServerError("x"), repeatable=True)
        attempts.progressed()


def test_each_repetition_is_logged_with_reason_and_delay(
    clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[Exception] = [ConnectError("no connection to http://h:1"), ThrottledError("slow")]
    sequence(clock.timing).run(failing(errors), repeatable=True)
    with pytest.raises(InvalidArgumentError):
        sequence(clock.timing).run(failing([InvalidArgumentError("x")]), repeatable=True)
    assert [(record.name, record.levelname) for record in caplog.records] == [
        ("fletching.client", "WARNING")
    ] * 2
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "no connection to http://h:1; attempt 2 follows in 1.0 s"
    assert second.startswith("slow")
    assert "attempt 3 follows in 2.0 s" in second


def test_a_cancelled_sequence_ends_whatever_it_met(clock: Any) -> None:
    cancellation = Cancellation()
    attempts = sequence(clock.timing, cancellation=cancellation)
    cancellation.cancel("left")
    with pytest.raises(OperationCancelledError, match="left"):
        attempts.wait(ConnectError("x"), repeatable=True)
    assert clock.slept == []


def test_other_options_are_for_the_same_request_as_far_as_it_has_come(clock: Any) -> None:
    attempts = sequence(clock.timing, trace_id="mine")
    attempts.wait(ConnectError("x"), repeatable=True)
    other = attempts.with_options(direct="never")
    assert (other.options.direct, attempts.options.direct) == ("never", "auto")
    assert (other.trace_id, other.index, other.cancellation) == ("mine", 1, attempts.cancellation)
