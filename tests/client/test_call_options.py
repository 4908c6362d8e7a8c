from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fletching.client.call_options import CallOptions, RetryPolicy, Timeouts
from fletching.errors import UsageError


def test_every_timeout_is_on_by_default() -> None:
    timeouts = Timeouts()
    for field in dataclasses.fields(timeouts):
        assert getattr(timeouts, field.name) > 0, field.name


def test_parts_of_timeouts_and_retries_can_change() -> None:
    options = CallOptions().changed(timeouts={"idle": 5.0}, retry={"budget_seconds": 1.0})
    assert options.timeouts == Timeouts(idle=5.0)
    assert options.retry.budget_seconds == 1.0
    assert options.changed(connections=2).timeouts.idle == 5.0


@pytest.mark.parametrize(
    "changes",
    [
        {"connections": 0},
        {"split_bytes": 0},
        {"write_body_bytes": 0},
        {"read_ahead_bytes": -1},
        {"compression": "snappy"},
        {"direct": "always"},
        {"direct": True},
        {"timeouts": {"idle": 0}},
        {"timeouts": {"total": -1.0}},
        {"no_such_option": 1},
    ],
    ids=str,
)
def test_meaningless_options_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        CallOptions().changed(**changes)


def test_every_option_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
    for kind, prefix in ((CallOptions, ""), (Timeouts, "timeouts."), (RetryPolicy, "retry.")):
        for field in dataclasses.fields(kind):
            if field.name not in {"timeouts", "retry"}:
                documented = f"`{prefix}{field.name}`" in page or f"`{field.name}`" in page
                assert documented, f"{prefix}{field.name} is missing in docs/client.md"


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "4", "all", None], ids=repr)
def test_connections_are_a_number_or_auto(value: Any) -> None:
    with pytest.raises(UsageError, match="connections"):
        CallOptions(connections=value)
    assert CallOptions(connections="auto").most_connections >= 1
